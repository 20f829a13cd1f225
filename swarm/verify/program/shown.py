"""Show that a solver has opened an event with other inputs than those of the log that it signed.

Core: frozen messages and pure checks.

    ShowInputs   the signed manifest of a log, the inputs of one event in it, or none, and their paths

A solver computes from what others sent it, and what that was, arithmetic does not tell: it may be right for
inputs that nobody sent. But it has served a log, whose manifest has the state at its start, the number of its
events, and a root over what each of them takes. If what is opened has anything else there, its solver has said
two things of one window, and is guilty. So it is if a micro-batch that it opens went out in other bytes: by the
gradient that came back for them, or by its own list. If all is the same, the move is none, and arithmetic goes
on.
"""

from swarm.errors import BrokenPromise
from swarm.ledger.edges import check_opening_shape
from swarm.primitives.codec import Message, encode
from swarm.primitives.edges import SentOpening, entry_at
from swarm.primitives.merkle import verify_proof
from swarm.primitives.state_parts import ANCHOR
from swarm.training.record.window import AnchorSet, SnapshotTaken
from swarm.training.recorder import entry_of
from swarm.types import Digest
from swarm.verify.inputs import (
    EventInputs,
    MergeInputs,
    MicrobatchInputs,
    StepInputs,
    dropped_digest,
)
from swarm.verify.manifest import WindowManifest, check_manifest
from swarm.verify.program.events import OpenAnchor, OpenCopy, OpenMerge
from swarm.verify.program.opened import OpenMicrobatch, OpenStep, Window

Shown = OpenStep | OpenCopy | OpenMerge | OpenAnchor
"""Opened events that take something from a log."""


class ShowInputs(Message, frozen=True, tag=20):
    """The challenger's proof that the log which its solver has served is not what it has opened."""

    manifest: WindowManifest
    event: EventInputs | None = None
    """The event that is open, in the log; None where its start or its length says enough."""
    path: tuple[bytes, ...] = ()
    microbatch: MicrobatchInputs | None = None
    """Of a step, the micro-batch that is open."""
    microbatch_path: tuple[bytes, ...] = ()
    listed: SentOpening | None = None
    """Of a micro-batch that is open, its entry in the list of what was sent, which the commit names."""


def check_shown(
    window: Window,
    move: ShowInputs,
    *,
    start: bytes,
    num_events: int,
    event: int,
    opened: Shown | None,
    part: int,
    microbatch: OpenMicrobatch | None,
) -> None:
    """Raise ``PeerFault`` unless a move shows that an opened event is not the one in the signed log.

    Args:
        window: The disputed window.
        move: What is shown.
        start, num_events: State at the start, and events but for the end, in the solver's account.
        event, opened: Number of the event that is open, and its opening; None for one that takes nothing.
        part, microbatch: Number of the micro-batch of a step that is open, and its opening; None before.
    """
    manifest, seating = move.manifest, window.seating
    run_digest = window.facts.run_digest
    check_manifest(manifest, seating.key, seating.solver, seating.chain, run_digest)
    if manifest.start != start or manifest.num_events != num_events:
        return
    if move.event is None:
        raise BrokenPromise("a log that begins, and goes on, as its solver says")
    verify_proof(manifest.inputs, encode(move.event), event, num_events, move.path)
    if opened is None or not _is_as_opened(move.event, opened):
        return
    if microbatch is not None and _is_listed_otherwise(window, move.listed, microbatch):
        return
    if not isinstance(opened, OpenStep) or microbatch is None or move.microbatch is None:
        raise BrokenPromise("inputs that are those of the log")
    _check_microbatch(move, part, microbatch)


def _is_listed_otherwise(
    window: Window, listed: SentOpening | None, opened: OpenMicrobatch
) -> bool:
    """Return True if the list has other bytes of a micro-batch than its solver has opened."""
    if listed is None:
        return False
    check_opening_shape(listed)
    mine = entry_of(opened.record, window.number)
    entry = entry_at(window.seating.sent_root, listed, mine.place)
    return entry is None or (entry.up, entry.down) != (mine.up, mine.down)


def _check_microbatch(move: ShowInputs, part: int, opened: OpenMicrobatch) -> None:
    """Raise ``BrokenPromise`` unless a micro-batch in the log has other inputs than the one that is open."""
    step = move.event
    assert isinstance(step, StepInputs), "an open step is compared with one"
    assert move.microbatch is not None, "the caller has looked"
    root, count = Digest(step.microbatches), step.num_microbatches
    verify_proof(root, encode(move.microbatch), part, count, move.microbatch_path)
    if inputs_opened(opened) == move.microbatch:
        raise BrokenPromise("a micro-batch with the inputs of the log")


def _is_as_opened(shown: EventInputs, opened: Shown) -> bool:
    """Return True if an event in a log may be the one that was opened, as far as it takes anything."""
    match opened:
        case OpenStep():
            said = (dropped_digest(opened.dropped), len(opened.microbatches))
            return isinstance(shown, StepInputs) and said == (shown.dropped, shown.num_microbatches)
        case OpenMerge():
            return shown == merge_opened(opened)
        case OpenCopy():
            return shown == SnapshotTaken(opened.exchange)
        case OpenAnchor():
            return shown == AnchorSet(Digest(opened.after[ANCHOR]))


def merge_opened(move: OpenMerge) -> MergeInputs:
    """Return what a log says of a merge that was opened so."""
    return MergeInputs(
        exchange=move.exchange,
        partner_seat=move.partner_seat,
        weight_nano=move.due_nano,
        my_payload=Digest(move.my_payload),
        partner_payload=Digest(move.partner_payload),
        codec=move.codec,
        has_receipt=move.moves_residual,
    )


def inputs_opened(move: OpenMicrobatch) -> MicrobatchInputs:
    """Return what a log says of a micro-batch that was opened so."""
    return MicrobatchInputs(
        origin=move.origin,
        step=move.step,
        microbatch=move.microbatch,
        source=move.source,
        destination=move.destination,
        in_activation=Digest(move.in_activation),
        in_gradient=Digest(move.in_gradient),
        answered=Digest(move.out_activation),
    )
