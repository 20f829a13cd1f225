"""Read a node's state document into the structs of ``swarm.node.api.schema``, and describe it in words.

Core: pure reads.

A field that is missing takes its default and one that is unknown is ignored; one of another type is an error
that names it. Every text is made printable here: names and reasons come from other peers. The progress of a
run, the quality of its model and its health have the same words in every view.
"""

from collections.abc import Mapping
from typing import TypeVar, cast

from swarm.cli.style import human_span
from swarm.errors import BadEncoding, Unreachable
from swarm.events import printable
from swarm.node.api.health import STANDSTILL_S
from swarm.node.api.schema import HealthRow, PeerRow, RunRow, StateDocument
from swarm.primitives.codec import read_document

TEXT_CHARS_MAX = 4096
"""Of one text: a ticket is the longest that a node sends, at a tenth of this."""
DEPTH_MAX = 16
"""The document is six deep."""

DocumentT = TypeVar("DocumentT")


def read_state(fields: object) -> StateDocument:
    """Return the document of /api/v1/state; raise ``Unreachable`` if it is none."""
    return read_answer(StateDocument, fields)


def read_answer(kind: type[DocumentT], fields: object) -> DocumentT:
    """Return an answer of a node as a ``kind``; raise ``Unreachable`` naming the field that is wrong."""
    try:
        return read_document(kind, _clean(fields))
    except BadEncoding as error:
        raise Unreachable(
            f"the node answers in a form that this swarm does not read: {error}",
            hint="swarm --version   (stop the node and start it again with this version)",
        ) from None


def _clean(value: object, depth: int = 0) -> object:
    """Return the same JSON without anything that steers a terminal, and of bounded depth."""
    if isinstance(value, str):
        return printable(value, TEXT_CHARS_MAX)
    if depth >= DEPTH_MAX:
        return value if isinstance(value, int | float | None) else None
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value)
        return {printable(key, 200): _clean(item, depth + 1) for key, item in pairs.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, depth + 1) for item in cast("list[object]", value)]
    return value


def me(state: StateDocument) -> PeerRow | None:
    """Return this node among the peers; None if it is not there yet."""
    return next((peer for peer in state.peers if peer.me), None)


def remark(peer: PeerRow) -> str:
    """Return the state in words: the reason when there is one to give."""
    if peer.condition == "out":
        return "proven false, evicted"
    return peer.reason if peer.reason and peer.reason != "ok" else peer.state


def audits(peer: PeerRow) -> str:
    """Return ``12/12``: the judged segments of a peer that stood; a dash before the first verdict."""
    record = peer.audits
    judged = record.verified + record.failed + record.silent
    return f"{record.verified}/{judged}" if judged else "-"


def progress(run: RunRow) -> str:
    """Return the round or phase of a run: ``round 7/22``, ``final averaging: round 1 of 3``."""
    of = f"round {run.round}/{run.rounds}" if run.rounds else f"round {run.round}"
    if run.phase == "open" and not run.round:
        return f"{run.rounds} rounds, the first begins soon"
    if run.phase == "open":
        return f"{of}, goes on soon"
    if run.phase == "paused":
        return f"paused after {of}"
    if run.phase == "cooling":
        step = f"round {run.consensus_round} of {run.consensus_rounds}"
        return f"{run.rounds} rounds trained, final averaging: {step}"
    if run.phase in {"finished", "settled"}:
        averaged = run.consensus_rounds
        return f"{run.rounds} rounds done" + (f", averaged in {averaged} more" if averaged else "")
    return f"{of}, then a pause" if run.is_pausing else of


def moves(state: StateDocument) -> bool:
    """Return True if the ledger and the tokens of a run that trains have risen lately."""
    run = state.run
    is_still = run is not None and run.phase == "training" and run.tokens_age_s >= STANDSTILL_S
    return not (is_still or state.ledger.is_still)


def phase_text(state: StateDocument) -> str:
    """Return the phase of the run in words; a run that stands still is not said to train."""
    phase = state.run.phase if state.run else ""
    if phase == "cooling":
        return "final averaging: the replicas of each stage become one"
    return "standing still" if phase == "training" and not moves(state) else phase


def verdict(health: HealthRow) -> str:
    """Return ``stalled for 23 s: no token was trained; try: swarm peers ls``, or ``healthy``."""
    if health.verdict == "progressing":
        return "healthy"
    is_aged = health.verdict in {"stalled", "waiting"} and health.age_s > 0
    since = f" for {human_span(health.age_s)}" if is_aged else ""
    message = f"{health.verdict}{since}"
    message += f": {health.cause}" if health.cause else ""
    return f"{message}; try: {health.command}" if health.command else message


def training_loss(run: RunRow) -> str:
    """Return ``training loss 1.579``, as ``RunRow.loss_nats`` defines it."""
    return f"training loss {run.loss_nats:.3f}" if run.loss_nats is not None else "training loss -"


def quality(run: RunRow) -> str:
    """Return ``held-out loss 1.612 nats, perplexity 5.01: round 20, measured by this node``."""
    if run.heldout is None and run.is_measured_here:
        return "not measured on held-out text yet"
    if run.heldout is None:
        return "not measured on held-out text by this node; swarm eval does it"
    return (
        f"held-out loss {run.heldout:.3f} nats, {_perplexity(run)}: {measured_at(run)},"
        " measured by this node"
    )


def quality_brief(run: RunRow) -> str:
    """Return the same for a line that says much else: ``perplexity 5.01 here, round 20``."""
    return f"{_perplexity(run)} here, {measured_at(run)}" if run.perplexity is not None else ""


def measured_at(run: RunRow) -> str:
    """Name the weights of the held-out loss: ``before training``, ``round 20``, ``fully averaged``."""
    if run.heldout_round is None:
        return "round unknown"
    if not run.heldout_round:
        return "before training"
    into = run.heldout_round - run.rounds
    if not run.rounds or into <= 0:
        return f"round {run.heldout_round}"
    if into >= run.consensus_rounds:
        return "fully averaged"
    return f"{into} of {run.consensus_rounds} averaging rounds"


def _perplexity(run: RunRow) -> str:
    return "perplexity -" if run.perplexity is None else f"perplexity {run.perplexity:.2f}"
