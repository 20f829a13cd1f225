"""Check a window at drawn elements, from what its solver states and shows: the verifier's half of a spot check.

Core: pure functions of the ledger, the text, and messages of the solver.

    statement, opened --check_opened--> the traces of the window, or a fault
    seed              --wanted-------> the items of three kinds of traces: a micro-batch, the update, trades
    shown             --find_false---> a proof against the solver, or None; a fault if something else is shown

What it costs does not depend on the model: ``SPOT_ITEMS`` items of about the same size. All events are
opened and follow one another from one state root on the ledger to the next, its counters and messages are
checked whole; of what is computed, each node of one micro-batch and of the update is seen at a few elements.

A fault is no proof: whoever serves that has served nothing, and is complained about. A false element is one.
Source: docs/spec/verification.md section 4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from swarm.config.tolerance import SPOT_ITEMS
from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.ledger.edges import EdgeMessage
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.codec import Message
from swarm.primitives.commitments import WindowResult
from swarm.primitives.merkle import verify_proof
from swarm.primitives.randomness import stream
from swarm.primitives.state_parts import ANCHOR
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import draw_samples
from swarm.training.messages import activation_sent, bare_gradient_sent
from swarm.training.model.stages import plans_of
from swarm.training.plan import RoundPlan
from swarm.training.record.window import FragmentMerged, MergeHead, StepTaken, Uncounted, WindowKey
from swarm.training.recorder import entry_of
from swarm.types import Digest
from swarm.verify.edges import check_list
from swarm.verify.log_rules import check_bare, check_merge_head, check_step_head
from swarm.verify.program.account import Account, Kind, check_order, kind_of, result_of
from swarm.verify.program.events import (
    OpenAnchor,
    OpenCopy,
    OpenEnd,
    OpenMerge,
    check_anchor,
    check_copy,
    check_end,
    check_merge,
    copy_case,
    merge_case,
)
from swarm.verify.program.game import Case
from swarm.verify.program.opened import OpenStep, Window, check_microbatch, check_step, step_case
from swarm.verify.program.reveal import value_root
from swarm.verify.program.states import check_parts
from swarm.verify.replay import Committed, check_weight
from swarm.verify.spots.elements import FalseElement, Item, ShownItem, drawn, first_false
from swarm.verify.spots.proof import FalseTrace
from swarm.verify.spots.statement import (
    CopyTrace,
    MergeTrace,
    MicrobatchTrace,
    Opened,
    SpotOpened,
    SpotStatement,
    TraceSaid,
    UpdateTrace,
    check_traces,
    trace_path,
    traces_of,
)

KINDS: dict[type[Opened], Kind] = {
    OpenStep: Kind.STEP,
    OpenCopy: Kind.COPY,
    OpenMerge: Kind.MERGE,
    OpenAnchor: Kind.ANCHOR,
    OpenEnd: Kind.END,
}


@dataclass(frozen=True, slots=True)
class Spot:
    """A window that is checked, as the ledger and the run have it."""

    window: Window
    """Its claim is of no meaning: it is not known yet."""
    plan: RoundPlan
    key: WindowKey
    committed: Committed
    tokens: TokenSource


@dataclass(frozen=True, slots=True)
class Wanted:
    """Items of one trace that are asked for."""

    trace: int
    """Number among the traces of the window."""
    case: Case
    items: tuple[Item, ...]


class ShownTrace(Message, frozen=True):
    """Items of one trace, and the paths of what its program takes and makes."""

    bound: tuple[tuple[bytes, ...], ...]
    """From the digest of each bound node to the trace root, by number."""
    items: tuple[ShownItem, ...]


class SpotShown(Message, frozen=True):
    """Everything that a seed asks for."""

    traces: tuple[ShownTrace, ...]


# --- what is stated ---


def check_opened(spot: Spot, said: SpotStatement, opened: SpotOpened) -> tuple[TraceSaid, ...]:
    """Return the traces of a window whose solver has signed ``said`` (``check_statement``).

    Raises ``PeerFault`` unless all events follow from one another and from the claim, and what others signed is
    what an honest seat could have worked with.
    """
    window, account = spot.window, opened.account
    if said.key != spot.key or opened.digest != said.opened:
        raise BrokenPromise("another window than the one that was asked for")
    if result_of(account).claim != said.claim:
        raise BrokenPromise("an account of something else than what is claimed")
    check_order(account, window.number, window.steps, is_last=window.is_last)
    kinds = tuple(KINDS[type(event)] for event in opened.events)
    if kinds != account.kinds:
        raise BrokenPromise("other events than those of the account")
    for at, event in enumerate(opened.events):
        check_parts(event.before, account.before(at))
        check_parts(event.after, account.states[at])
        _check_event(spot, account, at, event)
    windows = num_windows(spot.committed.num_steps, window.facts.spec.checks.window_steps)
    check_list(spot.committed.sent, windows)
    _check_tokens(spot, opened)
    _check_microbatches(spot, opened)
    _check_heads(spot, opened)
    if window.number == 0 and account.start != spot.committed.start_root:
        raise BrokenPromise("another state than the one that the segment begins with")
    traces = traces_of(window.facts, opened, window.first_step)
    check_traces(said, traces)
    return traces


def _check_event(spot: Spot, account: Account, at: int, event: Opened) -> None:
    facts = spot.window.facts
    match event:
        case OpenStep():
            check_step(spot.window, account, at, event)
        case OpenCopy():
            check_copy(facts, event)
        case OpenMerge():
            check_merge(facts, event, account.leaves[at])
        case OpenAnchor():
            check_anchor(event, spot.window.anchors)
        case OpenEnd():
            check_end(event)


def _steps(opened: SpotOpened) -> list[OpenStep]:
    return [event for event in opened.events if isinstance(event, OpenStep)]


def _check_tokens(spot: Spot, opened: SpotOpened) -> None:
    spec = spot.window.facts.spec
    counted = sum(len(step.microbatches) for step in _steps(opened))
    if opened.account.tokens != counted * spec.microbatch_size * spec.model.seq_len:
        raise BrokenPromise("other tokens than those of the micro-batches")


def _check_microbatches(spot: Spot, opened: SpotOpened) -> None:
    """Check each micro-batch against its leaf, and against the list of what was sent."""
    steps = _steps(opened)
    if len(steps) > 1:
        raise OutOfTurn("a window of several steps, which is checked by a replay")
    leaves = [one.leaf for step in steps for one in step.microbatches]
    if len(leaves) != len(opened.microbatches):
        raise BrokenPromise("other micro-batches than those of the step")
    listed = {
        entry.place: entry for entry in spot.committed.sent if entry.window == spot.key.window
    }
    for leaf, one in zip(leaves, opened.microbatches, strict=True):
        check_microbatch(spot.window.facts, leaf, one)
        entry = entry_of(one.record, spot.key.window)
        if listed.get(entry.place) != entry:
            raise OutOfTurn("a micro-batch that the list of what was sent does not have")


def _check_heads(spot: Spot, opened: SpotOpened) -> None:
    """Check what others signed: it is what the opened events were computed from."""
    has_state = [head for head in opened.heads if not isinstance(head, Uncounted)]
    events = [event for event in opened.events if not isinstance(event, OpenEnd)]
    if len(has_state) != len(events):
        raise BrokenPromise("other events than those of the log")
    for head, event in zip(has_state, events, strict=True):
        match head, event:
            case StepTaken(), OpenStep():
                _check_step_head(spot, opened, head, event)
            case MergeHead(), OpenMerge():
                _check_merge_head(spot, head, event)
            case _ if not isinstance(head, MergeHead) and kind_of(head) == KINDS[type(event)]:
                pass
            case _:
                raise BrokenPromise("another event than the one in the log")


def _check_step_head(spot: Spot, opened: SpotOpened, head: StepTaken, step: OpenStep) -> None:
    if head.step != spot.window.first_step or head.dropped != step.dropped:
        raise BrokenPromise("another step than the one in the log")
    if len(head.microbatches) != len(opened.microbatches):
        raise BrokenPromise("other micro-batches than those in the log")
    check_step_head(spot.plan, spot.key, head, spot.committed.incarnation)
    pairs = zip(head.microbatches, opened.microbatches, strict=True)
    for bare, one in pairs:
        record, request, reply = one.record, bare.request, bare.reply
        if bare.microbatch_id != record.microbatch_id:
            raise BrokenPromise("another micro-batch than the one in the log")
        if request is not None and request.source != record.source:
            raise BrokenPromise("activations from another seat than the one in the leaf")
        if reply is not None and reply.destination != record.destination:
            raise BrokenPromise("a gradient from another seat than the one in the leaf")
        digests = {
            "entry": record.in_activation,
            "sent": record.out_activation,
            "pull": record.in_gradient,
        }
        check_bare(spot.plan, spot.key, bare, **digests)


def _check_merge_head(spot: Spot, head: MergeHead, merge: OpenMerge) -> None:
    plan, offer, outer = spot.plan, head.offer, spot.plan.spec.outer
    if isinstance(head, FragmentMerged):
        raise BadEncoding("a payload in a header")
    fragment = outer.fragment_of(merge.exchange)
    numel = plans_of(plan.spec)[spot.key.stage].fragments(outer.fragments)[fragment].numel
    anchor = Digest(merge.before[ANCHOR])
    terms = check_merge_head(plan, spot.key, head, anchor, numel)
    named = (
        (b"", b"\0" * 32, None)
        if offer is None or terms is None
        else (
            terms.partner.peer,
            offer.payload_hash,
            offer.codec,
        )
    )
    said = (head.exchange, head.partner_seat, head.my_payload, head.weight_nano, *named)
    opened = (merge.exchange, merge.partner_seat, merge.my_payload, merge.due_nano)
    if said != (*opened, merge.partner, merge.partner_payload, merge.codec):
        raise BrokenPromise("another merge than the one in the log")
    if merge.moves_residual != (head.receipt is not None):
        raise BrokenPromise("a residual that moves without a receipt, or rests with one")
    if terms is not None and offer is not None:
        (mine,) = (tokens for exchange, tokens, _ in merge.offered if exchange == merge.exchange)
        check_weight(plan, terms.due_nano(mine, offer.tokens), head.weight_nano)


# --- what is asked for ---


def wanted(
    spot: Spot,
    opened: SpotOpened,
    traces: Sequence[TraceSaid],
    seed: bytes,
    items: int = SPOT_ITEMS,
) -> list[Wanted]:
    """Return the items that a seed asks for: of a micro-batch, of the update, and of every trade."""
    dice = stream(seed, "spot")
    counted = [at for at, one in enumerate(traces) if isinstance(one, MicrobatchTrace)]
    chosen = [dice.choice(counted)] if counted else []
    steps = [*chosen, *(at for at, one in enumerate(traces) if isinstance(one, UpdateTrace))]
    trades = [at for at, one in enumerate(traces) if isinstance(one, CopyTrace | MergeTrace)]
    for_trades = items if not steps else items // 4 if trades else 0
    shares = {at: (items - for_trades) // len(steps) for at in steps}
    shares |= {at: for_trades // len(trades) for at in trades}
    found = list[Wanted]()
    for at, count in shares.items():
        case = case_of(spot, opened, traces[at])
        found.append(Wanted(at, case, tuple(drawn(case.program, dice, count))))
    return found


def case_of(spot: Spot, opened: SpotOpened, trace: TraceSaid) -> Case:
    """Return the program of a trace, with all that it takes and makes bound to what is opened."""
    window, events = spot.window, opened.events
    match trace:
        case MicrobatchTrace(number):
            (step,) = _steps(opened)
            microbatch = opened.microbatches[number]
            case = step_case(window, step, window.first_step, number, microbatch)
            return _with_tokens(spot, case, microbatch.record.microbatch_id)
        case UpdateTrace():
            (step,) = _steps(opened)
            return step_case(window, step, window.first_step, len(step.microbatches), None)
        case CopyTrace(event):
            copy = events[event]
            assert isinstance(copy, OpenCopy), "traces are those of the events"
            return copy_case(window.facts, copy)
        case MergeTrace(event):
            merge = events[event]
            assert isinstance(merge, OpenMerge), "traces are those of the events"
            return merge_case(window.facts, merge)


def _with_tokens(spot: Spot, case: Case, microbatch_id: tuple[int, int, int]) -> Case:
    """Return a case whose tokens are bound, too: who checks has the text."""
    inputs_BT, labels_BT, _ = draw_samples(spot.tokens, spot.plan, microbatch_id)
    program, bound = case.program, dict(case.bound)
    for name, tokens_BT in (("ids", inputs_BT), ("labels", labels_BT)):
        if name in program.inputs:
            number = program.inputs[name]
            tokens_N = tokens_BT.reshape(-1).to(torch.int32)
            bound[number] = value_root(program.nodes[number], tokens_N)
    return Case(program, case.root, bound)


# --- what is shown ---


def find_false(
    said: SpotStatement,
    traces: tuple[TraceSaid, ...],
    asked: Sequence[Wanted],
    shown: SpotShown,
) -> FalseTrace | None:
    """Return a proof that something under the traces is false; None if all that was asked for is true.

    Raises ``PeerFault`` if something else is shown than what was asked for.
    """
    if len(shown.traces) != len(asked):
        raise BrokenPromise("other traces than those that were asked for")
    for one, trace in zip(asked, shown.traces, strict=True):
        found = find_false_in(one, trace)
        if found is not None:
            path, trace_said = trace_path(traces, one.trace), traces[one.trace]
            return FalseTrace(
                statement=said,
                trace=trace_said,
                number=one.trace,
                path=path,
                values=found.values,
                reveal=found.reveal,
            )
    return None


def find_false_in(asked: Wanted, trace: ShownTrace) -> FalseElement | None:
    """Return a false element of one trace; None if all items are true. Raises as ``find_false`` does."""
    case = asked.case
    if len(trace.bound) != len(case.bound):
        raise BrokenPromise("other inputs and outputs than those of the program")
    for number, path in zip(sorted(case.bound), trace.bound, strict=True):
        verify_proof(case.root, case.bound[number], number, len(case.program.nodes), path)
    return first_false(case.program, case.root, asked.items, trace.items)


def result_in(opened: SpotOpened) -> WindowResult:
    """Return the result of a window whose statement was checked: the answer of its verifier."""
    return result_of(opened.account)


def edges_in_opened(opened: SpotOpened) -> Iterator[EdgeMessage]:
    """Yield every message that another seat signed for the step and the merges of a checked window."""
    for head in opened.heads:
        match head:
            case StepTaken(_, counted):
                for bare, one in zip(counted, opened.microbatches, strict=True):
                    if bare.request is not None:
                        yield activation_sent(bare.request, one.record.in_activation)
                    if bare.reply is not None:
                        yield bare_gradient_sent(bare.reply, one.record.in_gradient)
            case MergeHead(offer=offer) if offer is not None:
                yield offer
            case _:
                pass
