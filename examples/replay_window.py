"""Replay some optimizer steps of another peer, and compare every bit with what it has committed to.

Run it with: python examples/replay_window.py
"""

import trio
from tiny_swarm import tiny_swarm

import swarm
from swarm.ledger.state.records import SegmentRecord


async def replay(node: swarm.Node) -> None:
    """Replay the first window of a segment of another peer, and print what comes out.

    A segment is the work of one seat in one round. Its solver commits to it at the end of the round, and shows
    the hashes of its steps once a checker was drawn and has answered: nobody could copy them until then.
    """
    blocks, shown = node.blocks(), list[SegmentRecord]()
    while not shown:
        await anext(blocks)
        shown = [one for one in node.ledger.segments() if one.peer != node.key and one.windows]
    segment = shown[-1]
    print(f"round {segment.round}, stage {segment.stage}: {segment.num_steps} steps were committed")
    result = await node.audit(segment, window=0)
    print("\n".join(result.lines))
    print(f"committed {(result.said or b'').hex()}")
    print(f"replayed  {(result.found or b'').hex()}")
    assert result.verdict == "honest"
    assert result.said == result.found


async def main() -> None:
    """Run the example."""
    # Peers show their logs to those who have a stake to lose: here that is the launcher.
    async with tiny_swarm() as (launcher, _):
        await replay(launcher)


if __name__ == "__main__":
    trio.run(main)
