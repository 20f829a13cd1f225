"""Find this node's moves in disputes, as the solver or as the accuser.

Shell: fetches the log, and replays it in the worker; ``verify/program/players.py`` finds the move.

A side is made from the log once and kept while its dispute lasts. After a restart it is made again: what the
other side has said is on the ledger, and nothing else is needed.
"""

from collections.abc import Collection

from swarm.errors import BadConfig, OutOfTurn, PeerFault, Unreachable
from swarm.events import EventKind
from swarm.executor import ExecutorPort
from swarm.ledger.state.accusations import Dispute
from swarm.primitives.codec import encode
from swarm.training.record.window import WindowKey
from swarm.types import PeerId
from swarm.verify.answers import SegmentKey, Sought, seat_of
from swarm.verify.changes import where
from swarm.verify.court import read_game, window_of
from swarm.verify.duties import MoveKey
from swarm.verify.log_store import LogStore
from swarm.verify.logs import Logs
from swarm.verify.manifest import WindowManifest
from swarm.verify.ports import EventPort, LedgerPort
from swarm.verify.program.account import result_of
from swarm.verify.program.computed import Log
from swarm.verify.program.opened import Window
from swarm.verify.program.players import Challenger, Solver
from swarm.verify.replay_process import Material, read_window


class Hearings:
    """Moves of this node, and the sides that find them."""

    def __init__(
        self,
        me: PeerId,
        ledger: LedgerPort,
        log_store: LogStore,
        logs: Logs,
        compute: ExecutorPort,
        report: EventPort,
    ) -> None:
        self.moves: dict[MoveKey, bytes | None] = {}
        """Moves that were found; None where this node has none to make."""
        self._me, self._ledger, self._log_store, self._logs = me, ledger, log_store, logs
        self._compute, self._report = compute, report
        self._sides: dict[WindowKey, Solver | Challenger] = {}
        self._warned: set[WindowKey] = set()

    def forget(self, live: Collection[SegmentKey]) -> None:
        """Drop the data of segments that are not in ``live``."""
        for key in [key for key in self._sides if seat_of(key) not in live]:
            del self._sides[key]
        for move in [move for move in self.moves if seat_of(move.key) not in live]:
            del self.moves[move]
        self._warned = {key for key in self._warned if seat_of(key) in live}

    async def find(self, wanted: MoveKey) -> None:
        """Find the move that is due; it waits in ``moves``. Nothing is found while a log is not there."""
        key, state = wanted.key, self._ledger.state
        record, run = state.segment(*seat_of(key)), state.find_run(key.run)
        dispute = None if record is None else record.dispute
        if record is None or run is None or dispute is None:
            return
        if wanted != MoveKey(key, dispute.turn, dispute.since):
            return  # a block came in between
        sought = Sought(key, record, run)
        try:
            side = await self._side(sought)
        except (Unreachable, BadConfig, PeerFault) as error:
            self._warn(sought, str(error))
            return
        if side is not None:
            self.moves[wanted] = await self._compute.run(_move, side, sought, dispute)

    async def _side(self, sought: Sought) -> Solver | Challenger | None:
        """Return this node's side; None if it has no log of the window."""
        side = self._sides.get(sought.key)
        if side is None and sought.run.spec.checks.spots and sought.record.peer == self._me:
            own = await self._logs.own_window(sought.key)
            side = self._sides[sought.key] = Solver(own.window, own.log)
        if side is None:
            manifest = self._manifest(sought)
            if manifest is None:
                self._warn(sought, "its log is not here")
                return None
            holders = sought.witnesses(self._me)
            material = await self._logs.gather(manifest, sought, holders, urgent=True)
            window = window_of(self._ledger.state, sought.record, sought.key.window)
            is_solver = sought.record.peer == self._me
            answer = self._log_store.answers.get(sought.key)
            marker = b"" if answer is None else answer.result.end_root
            given = (window, material, None if is_solver else manifest, marker)
            side = await self._compute.run(_side_of, *given)
            self._sides[sought.key] = side
        return side

    def _manifest(self, sought: Sought) -> WindowManifest | None:
        """Return the manifest of our own log, or of the one that our answer is from."""
        manifests = self._log_store.manifests(sought.key)
        answer = self._log_store.answers.get(sought.key)
        wanted = [one for one in manifests if answer is not None and one.root == answer.root]
        found = manifests if sought.record.peer == self._me else wanted
        return found[0] if found else None

    def _warn(self, sought: Sought, text: str) -> None:
        if sought.key not in self._warned:
            self._warned.add(sought.key)
            what = f"no move in the dispute about window {sought.key.window}"
            self._report(EventKind.WARNING, f"{what} of {where(sought.record)}: {text}")


def _side_of(
    window: Window, material: Material, manifest: WindowManifest | None, marker: bytes
) -> Solver | Challenger:
    """Return the challenger of a log, with its manifest; without one its solver.

    ``marker``: last state of this node's answer, which stands in its account for what cannot be computed.
    """
    data = read_window(material.log)
    if data is None:
        raise Unreachable("the log is none")
    given = (material.log.plan, data, material.tokens, material.anchors, material.base_W)
    log = Log(*given, material.log.committed.sent)
    if manifest is None:
        return Solver(window, log)
    return Challenger(window, log, log.account_with(marker), manifest)


def _move(side: Solver | Challenger, sought: Sought, dispute: Dispute) -> bytes | None:
    """Return a move as bytes; None where this side has none that would stand."""
    if not dispute.game:
        return encode(side.account) if isinstance(side, Challenger) else None
    claim = result_of(side.account).claim
    if isinstance(side, Solver) and claim != sought.record.claims[sought.key.window]:
        return None
    try:
        return encode(side.move(read_game(dispute.game)))
    except (OutOfTurn, LookupError):  # a log that is not the one that its solver has served
        return None
