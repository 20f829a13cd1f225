"""Audit any window that is still on the ledger, chosen by the caller instead of a draw.

Shell: requests and replays logs; ``audit`` derives the verdict. What came in a
file is kept like what was fetched.
"""

from collections.abc import Sequence

import trio

from swarm.config.tolerance import is_checked
from swarm.errors import BadConfig, Unreachable, UsageError
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.commitments import REFUSED
from swarm.primitives.crypto import peer_name
from swarm.training.record.window import WindowKey
from swarm.types import PeerId
from swarm.verify.answers import Sought, key_of, seat_of
from swarm.verify.audit import AuditEvidence, AuditResult, judge_distances, judge_logs
from swarm.verify.evidence import Evidence
from swarm.verify.log_store import LogStore
from swarm.verify.logs import Logs, RefusedLog
from swarm.verify.ports import LedgerPort
from swarm.verify.replay_process import Material
from swarm.verify.tolerance import Comparison

ASK_PATIENCE_S = 15.0
"""Seconds to keep asking while no log is known: its only holder may have just come back from a restart."""
ASK_AGAIN_S = 1.0


async def inspect(
    me: PeerId, ledger: LedgerPort, log_store: LogStore, logs: Logs, key: WindowKey
) -> AuditResult:
    """Replay every log of a window that its possible holders serve, and compare with the ledger.

    Raises ``UsageError`` if the window is not on the ledger, or its run cannot be checked.
    """
    sought = _find(ledger, key)
    record, run = sought.record, sought.run
    silent = await _ask(sought.witnesses(me), sought, log_store, logs)
    replayed, compared = list[AuditEvidence](), list[Comparison]()
    troubles = [f"{peer_name(peer)} does not answer" for peer in silent]
    for manifest in log_store.manifests(key):
        try:
            found = await logs.replay(manifest, sought, sought.witnesses(me), urgent=False)
        except RefusedLog:
            found = Comparison(REFUSED, 0.0, 0.0)
        except (Unreachable, BadConfig) as error:
            troubles.append(str(error))
            continue
        chain = ledger.state.chain
        replayed.append(AuditEvidence(chain, run.spec_digest, record.peer, manifest, found.result))
        compared.append(found)
    # Fetching may take long: a reveal that became final meanwhile counts.
    record = ledger.state.segment(*key_of(record)) or record
    if run.spec.is_exact:
        return judge_logs(record, run.spec, key, replayed, troubles)
    measured = list(zip(replayed, compared, strict=True))
    return judge_distances(record, run.spec, key, measured, troubles)


async def gather(me: PeerId, ledger: LedgerPort, logs: Logs, evidence: AuditEvidence) -> Material:
    """Return everything that the replay of an audited log reads, fetched again if it went.

    Raises as ``inspect`` and ``Logs.replay`` do.
    """
    sought = _find(ledger, evidence.key)
    return await logs.gather(evidence.manifest, sought, sought.witnesses(me))


async def adopt(ledger: LedgerPort, logs: Logs, evidence: Evidence) -> None:
    """Keep and serve the log and the list that came in a file of evidence, which ``prove`` has checked.

    Raises ``UsageError`` as ``inspect`` does, ``BadConfig`` if the disk or the quota is full.
    """
    sought = _find(ledger, evidence.key)
    await logs.adopt(evidence.manifest, evidence.log, sought, evidence.sent)


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
    if not is_checked(run.spec):
        raise UsageError("this run cannot be checked: honest machines differ as much as liars")
    windows = num_windows(record.num_steps, run.spec.checks.window_steps)
    if not 0 <= key.window < windows:
        raise UsageError(f"the segment has windows 0 to {windows - 1}")
    return Sought(key, record, run)
