"""Render the result of the demo, and describe the checks while it runs.

Core: figures and state documents in, text out. Source of the keys: docs/spec/figures.md.
"""

from dataclasses import asdict, dataclass

from swarm.cli.style import Ink, human_count, human_span
from swarm.ledger.transition.payments import ACCUSER_PERCENT
from swarm.node.api.schema import CheckRow, ConvictionRow, StateDocument


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one demo; None where one could not be measured."""

    initial_loss_nats: float | None
    final_loss_nats: float | None
    """Held-out loss, as the initial one: by a separate process, from the exported models."""
    tokens: int
    rounds: int
    peers: int
    commits_final: int | None
    commits_verified: int | None
    lies_planted: int | None
    lies_caught: int | None
    rejoin_s: float | None
    ledger_height: int | None
    supply_conserved: bool | None
    peak_memory_mb: float | None
    left_running: int
    sample: str | None
    export_dir: str | None
    map_url: str
    seconds: float
    commits_old: int | None = None
    """Commits older than two rounds at the end: as many could have been verified."""
    honest_slashed: int | None = None
    """Peers that lost stake, apart from the cheating one."""
    lies_late: int | None = None
    """False segments committed so near the end that there was no time to hear them."""
    lies_unseen: int | None = None
    """False segments that no verifier got to in time; their peer is convicted of others."""
    deceivers: int | None = None
    """Peers that gave their partners other weights than they have, and committed segments."""
    deceivers_caught: int | None = None
    """Those of them that were convicted, by one transaction each."""


def result_object(result: Result) -> dict[str, object]:
    """Return the object of ``swarm demo --json``."""
    return dict(asdict(result))


def shortfalls(result: Result) -> list[str]:
    """List the faults that fail the demo itself, not only its figures."""
    faults = list[str]()
    if result.left_running:
        faults.append(f"{result.left_running} processes are still running")
    if result.supply_conserved is False:
        faults.append("the ledger lost or made money")
    if result.final_loss_nats is None:
        faults.append("the trained model could not be measured")
    if result.honest_slashed:
        faults.append(f"{result.honest_slashed} honest peers lost stake")
    settled = (result.lies_caught, result.lies_late, result.lies_unseen)
    open_lies = (result.lies_planted or 0) - sum(count or 0 for count in settled)
    if open_lies > 0:
        faults.append(f"{open_lies} false segments were found true, or have no verdict")
    if result.lies_unseen and not result.lies_caught:
        faults.append("the cheating peer was never convicted: no verifier looked at its segments")
    if (result.deceivers or 0) > (result.deceivers_caught or 0):
        faults.append("a peer that gave its partners other weights was not caught")
    return faults


def result_lines(result: Result, ink: Ink) -> list[str]:
    """Return the result as lines for people."""
    rows = [
        ("loss", f"{_nats(result.initial_loss_nats)} -> {_nats(result.final_loss_nats)} nats per byte,"
                 " on held-out text, measured by a separate process"),
        ("trained", f"{human_count(result.tokens)} tokens in {result.rounds} rounds by"
                    f" {result.peers} peers, {human_span(result.seconds)} in all"),
        ("killed", _killed(result.rejoin_s)),
        ("checked", f"{_of(result.commits_verified, result.commits_old)} commits older than two rounds: another"
                    " peer replayed a window of each, and found it true"),
        ("cheating", _cheating(result)),
        ("deceiving", _deceiving(result)),
        ("ledger", f"height {human_count(result.ledger_height)},"
                   f" {human_count(result.commits_final)} commits final,"
                   f" supply {'conserved' if result.supply_conserved else 'NOT CONSERVED'}"),
        ("memory", f"{human_count(result.peak_memory_mb)} MB at most, all processes together"),
        ("model", result.export_dir or "none"),
        ("left", f"{result.left_running} processes running"),
    ]  # fmt: skip
    lines = [f"{ink.paint('dim', f'{label:<9}')} {value}" for label, value in rows]
    if result.sample:
        lines += ["", ink.paint("dim", "a sample of what it writes:"), *_quoted(result.sample)]
    return lines


def _of(some: int | None, all_: int | None) -> str:
    return f"{human_count(some)} of {human_count(all_)}"


def _cheating(result: Result) -> str:
    if result.lies_planted is None:
        return "none"
    caught = _of(result.lies_caught, result.lies_planted)
    message = f"{caught} false segments were proven false, or not shown and not paid"
    if result.lies_late:
        message += f" ({result.lies_late} came too late for a verdict)"
    if result.lies_unseen:
        message += f" ({result.lies_unseen} no verifier got to in time)"
    return f"{message}, {human_count(result.honest_slashed)} honest peers slashed"


def _deceiving(result: Result) -> str:
    if result.deceivers is None:
        return "none"
    return (
        f"{_of(result.deceivers_caught, result.deceivers)} peers that gave their partners other weights were"
        " convicted, by one transaction with their own signature"
    )


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _killed(rejoin_s: float | None) -> str:
    """Return the time that the killed peer took to train again; the figures hold nothing else about it."""
    if rejoin_s is None:
        return "no peer was seen to train again after a kill"
    return f"one peer was killed and trained again after {rejoin_s:.1f} s"


def _quoted(text: str) -> list[str]:
    printable = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return [f"  | {line}" for line in printable.splitlines()[:20]]


class Story:
    """Messages returned so far, and the largest stake seen of each peer."""

    def __init__(self) -> None:
        self._reported = set[str]()
        self._stakes: dict[str, int] = {}

    def read(self, state: StateDocument) -> list[str]:
        """Return the messages that this state document adds."""
        found = list[tuple[str, str]]()
        for check in state.checks:
            if check.phase == "disputed":
                found.append((f"caught {_segment_name(check)}", self._caught(check)))
            if check.proved_by:
                found.append((f"proved {check.name}", self._proved(check)))
        for conviction in reversed(state.convictions):
            found.append((f"evicted {conviction.name}", self._evicted(conviction)))
        for peer in state.peers:
            self._stakes[peer.name] = max(peer.stake, self._stakes.get(peer.name, 0))
        fresh = [(key, message) for key, message in found if key not in self._reported]
        self._reported.update(key for key, _ in fresh)
        return [message for _, message in fresh]

    def _caught(self, check: CheckRow) -> str:
        window = (check.dispute or {}).get("window")
        which = "a window" if window is None else f"window {window}"
        finders = ", ".join(check.accusers)
        by = f" ({finders} found it)" if finders else ""
        return f"caught: {which} of segment {_segment_name(check)} of {check.name} differs{by}"

    def _proved(self, check: CheckRow) -> str:
        where = f"segment {_segment_name(check)} of {check.name}"
        return (
            f"caught: {where} is false by what it signed itself ({check.proved_by} has proved it)"
        )

    def _evicted(self, conviction: ConvictionRow) -> str:
        name, finder, taken = conviction.name, conviction.accuser, conviction.stake_taken
        if taken is None:
            taken = self._stakes.get(name, 0)
        share = human_count(taken * ACCUSER_PERCENT // 100)
        to = f": {share} to {finder}, the rest burnt" if finder else ""
        return f"{name} is evicted, its stake of {human_count(taken)} is taken{to}"


def _segment_name(row: CheckRow) -> str:
    return f"{row.round}/{row.stage}/{row.seat}"
