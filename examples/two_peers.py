"""Launch two peers in one script, train a tiny model together and print the loss.

Run it with: python examples/two_peers.py
"""

import trio
from tiny_swarm import tiny_swarm

import swarm

ROUNDS = 3


async def train(launcher: swarm.Node, joiner: swarm.Node) -> None:
    """Print the loss after some rounds that both peers have trained, then end the run."""
    # Each of the two stages of the model goes to one of them: neither computes the loss alone.
    for node in (launcher, joiner):
        seat = await node.wait_for("seat_taken")
        print(f"{node.name} {seat.text}")
    rounds = 0
    async for event in launcher.events():
        if event.kind == "round_started" and launcher.training_loss and joiner.num_steps:
            print(f"{event.text}: loss {launcher.training_loss:.3f} nats per byte")
            rounds += 1
        if rounds == ROUNDS:
            break
    # Only the owner of a run may end it. After the last round the replicas of a stage are averaged.
    run = await launcher.stop_run()
    print(
        f"{run.spec.name} ends after round {run.end_round}: {run.tokens} tokens are on the ledger"
    )


async def main() -> None:
    """Run the example."""
    async with tiny_swarm() as (launcher, joiner):
        await train(launcher, joiner)


if __name__ == "__main__":
    trio.run(main)
