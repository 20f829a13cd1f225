"""Audit any window that is still on the ledger, chosen by the caller instead of a draw.

Shell: requests and replays logs, reads blocks; ``audit`` derives the verdict.
"""

from collections.abc import Sequence

import trio

from swarm.errors import BadConfig, Unreachable, UsageError
from swarm.ledger.state.records import Run, SegmentRecord
from swarm.ledger.transactions import RevealSegment, parse_transaction
from swarm.ledger.transition.phases import REVEAL_ROUNDS
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.crypto import peer_name
from swarm.training.record.window import WindowKey
from swarm.types import Height, PeerId
from swarm.verify.audit import AuditEvidence, AuditResult, judge_logs, shown_leaves
from swarm.verify.judging import Sought, key_of, seat_of
from swarm.verify.log_store import LogStore
from swarm.verify.logs import Logs
from swarm.verify.ports import LedgerPort
from swarm.verify.replay import Answer

BLOCKS_READ_MAX = 4096
"""Blocks searched for a solver's reveal: a challenge window of most of a day, with a block every 20 s."""
ASK_PATIENCE_S = 15.0
"""Seconds to keep asking while no log is known: its only holder may have just come back from a restart."""
ASK_AGAIN_S = 1.0


async def inspect(
    me: PeerId, ledger: LedgerPort, log_store: LogStore, logs: Logs, key: WindowKey
) -> AuditResult:
    """Replay every log of a window that its possible holders serve, and compare with the ledger.

    Raises ``UsageError`` if the window is not on the ledger, or its run has native numerics.
    """
    sought = _find(ledger, key)
    record, run = sought.record, sought.run
    silent = await _ask(sought.witnesses(me), sought, log_store, logs)
    replayed = list[tuple[AuditEvidence, Answer]]()
    troubles = [f"{peer_name(peer)} does not answer" for peer in silent]
    for manifest in log_store.manifests(key):
        try:
            answer = await logs.replay(manifest, sought, sought.witnesses(me), urgent=False)
        except (Unreachable, BadConfig) as error:
            troubles.append(str(error))
            continue
        chain, leaves = ledger.state.chain, tuple(answer.leaves)
        parts = (chain, run.spec_digest, record.peer, manifest, leaves, answer.end_root)
        replayed.append((AuditEvidence(*parts), answer))
    # Fetching may take long: a reveal that became final meanwhile counts.
    record = ledger.state.segment(*key_of(record)) or record
    reveal = await _find_reveal(ledger, record, run) if record.windows else None
    shown = None if reveal is None else shown_leaves(record, key.window, reveal)
    return judge_logs(record, run.spec, key, replayed, shown, troubles)


async def _ask(
    peers: Sequence[PeerId], sought: Sought, log_store: LogStore, logs: Logs
) -> list[PeerId]:
    """Ask all peers, repeatedly while no log is known; return those that did not answer."""
    silent, ends = list(peers), trio.current_time() + ASK_PATIENCE_S

    async def one(peer: PeerId) -> None:
        if await logs.ask(peer, sought):
            silent.remove(peer)

    while True:
        async with trio.open_nursery() as nursery:
            for peer in silent:
                nursery.start_soon(one, peer)
        is_over = not silent or trio.current_time() + ASK_AGAIN_S > ends
        if is_over or log_store.manifests(sought.key):
            return silent
        await trio.sleep(ASK_AGAIN_S)


def _find(ledger: LedgerPort, key: WindowKey) -> Sought:
    record, run = ledger.state.segment(*seat_of(key)), ledger.state.find_run(key.run)
    if record is None or run is None:
        raise UsageError(
            f"segment {key.round}/{key.stage}/{key.seat} of run {key.run} is not on the ledger,"
            " or its challenge window has passed",
            hint="swarm ledger tail",
        )
    if not run.spec.is_exact:
        raise UsageError("a run with native numerics cannot be replayed: honest machines differ")
    windows = num_windows(record.num_steps, run.spec.checks.window_steps)
    if not 0 <= key.window < windows:
        raise UsageError(f"the segment has windows 0 to {windows - 1}")
    return Sought(key, record, run)


async def _find_reveal(ledger: LedgerPort, record: SegmentRecord, run: Run) -> RevealSegment | None:
    """Return a solver's reveal from the block that holds it; None if it is in none of the blocks read."""
    likely = record.reveals_end - REVEAL_ROUNDS * run.spec.round_blocks
    last = min(ledger.state.height, record.height + BLOCKS_READ_MAX)
    for height in (likely, *range(record.height + 1, last + 1)):
        found = ledger.block_at(Height(height)) if height > record.height else None
        for data in found[0].transactions if found is not None else ():
            body = parse_transaction(data).body
            if isinstance(body, RevealSegment) and _is_of(body, record):
                return body
        await trio.lowlevel.checkpoint()
    return None


def _is_of(body: RevealSegment, record: SegmentRecord) -> bool:
    return (body.run, body.round, body.stage, body.seat) == key_of(record)
