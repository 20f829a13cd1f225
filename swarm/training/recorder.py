"""Run a seat's computations and record them: the log it commits to, and the windows for replays.

Core: a machine; every method runs in one worker thread, one after another, so the order of the records is
the order in which the state changed.

    CLOSED --begin--> OPEN: micro-batches, steps, snapshots, merges --close--> CLOSED

A window begins with every ``window_steps``-th step; events before the first step belong to the first window. A
segment without a step or merge leaves no trace, not even in the state: it could not be committed. Merges follow
a step, except in rounds of final averaging, which have none.

Whatever the seat computes for another one is listed (primitives/edges.py), counted or not: a micro-batch whose
answer never came, or whose gradient was lost with a device, is written into the log before the weights change,
so that a replay finds what was sent of it. Nothing is computed that the list has no room for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from swarm.errors import UsageError
from swarm.gossip.trade.messages import Offer, fragment_digest
from swarm.primitives.edges import SENT_MAX, Place, SentEntry, SentKind
from swarm.primitives.merkle import merkle_root
from swarm.training.averaging.outer_step import FragmentSnapshot, Merge
from swarm.training.averaging.robust import Movements, clip_or_reject, probe_loss
from swarm.training.data.dataset import TokenSource
from swarm.training.messages import MicroBatch, MicroBatchGrad, Passed, TooBusy
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import (
    MergeRecord,
    MicrobatchId,
    MicrobatchRecord,
    SegmentLog,
    ShardState,
    StepRecord,
)
from swarm.training.record.window import (
    SNAPSHOTS_MAX,
    AnchorSet,
    ComputedMicrobatch,
    Event,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    Uncounted,
    WindowData,
    WindowKey,
    is_bare,
    waiting_max,
)
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, RoundIndex


@dataclass(slots=True)
class OpenWindow:
    """The open window: its start state, and the events since."""

    key: WindowKey
    start: ShardState
    keeps_end: bool
    """True in a run without exact numerics: no replay gives the bits of the end."""
    start_root: Digest
    """Root of the start state; of a later window it is known once its first step is taken."""
    events: list[Event] = field(default_factory=list[Event])

    def merge(self, merge: Merge) -> None:
        """Record a merge; raise ``UsageError`` if the partner's signed offer is missing."""
        received = merge.received
        if (received is None) != (merge.theta_hat_P is None):
            raise UsageError("a merge with a partner is recorded with what the partner signed")
        self.events.append(
            FragmentMerged(
                exchange=merge.snapshot.exchange,
                partner_seat=merge.partner_seat,
                weight_nano=merge.weight_nano,
                my_payload=merge.my_payload,
                offer=None if received is None else received.offer,
                receipt=None if merge.sent is None else merge.sent.receipt,
                payload=b"" if received is None else received.payload,
            )
        )

    def turn(self, start: ShardState) -> WindowData:
        """Return the complete window; the next one begins with ``start`` and the step that is being taken."""
        done = self.done(is_last=False, end=start if self.keeps_end else None)
        self.key = replace(self.key, window=self.key.window + 1)
        self.start, self.events, self.start_root = start, [], NO_DIGEST
        return done

    def done(self, *, is_last: bool, end: ShardState | None) -> WindowData:
        """Return the window up to now; ``end`` is the state, where it is kept."""
        return WindowData(
            key=self.key,
            is_last=is_last,
            start=self.start,
            events=tuple(self.events),
            end=end,
            start_root=self.start_root,
        )


@dataclass(frozen=True, slots=True)
class _Computed:
    """A micro-batch that was computed, with what other peers have signed for it so far."""

    record: MicrobatchRecord
    request: MicroBatch | None
    reply: MicroBatchGrad | None = None

    @property
    def messages(self) -> ComputedMicrobatch:
        """Its messages, as a window has them."""
        return ComputedMicrobatch(*self.record.microbatch_id, self.request, self.reply)


@dataclass(slots=True)
class OpenSegment:
    """State between begin and close of a segment."""

    plan: RoundPlan
    log: SegmentLog
    tokens_before: int
    anchor_before: tuple[Tensor, Digest]
    window: OpenWindow | None
    """None if no windows are kept."""
    merged: set[int] = field(default_factory=set[int])
    """Exchanges that were merged."""
    waiting: dict[MicrobatchId, _Computed] = field(default_factory=dict)
    """Micro-batches computed with the weights of now, until their step is taken or the weights change."""
    sent: dict[Place, SentEntry] = field(default_factory=dict)
    """Entries of all micro-batches that do not wait any more."""

    @property
    def window_index(self) -> int:
        """Number of the window that what happens now belongs to, unless a step begins the next one."""
        return max(self.log.num_steps - 1, 0) // self.plan.spec.checks.window_steps

    def check_room(self) -> None:
        """Raise ``TooBusy`` if no other micro-batch fits into the list, or may fail before the next step."""
        if len(self.sent) + len(self.waiting) >= SENT_MAX - 2 * self.plan.exchanges:
            raise TooBusy("this segment takes no more micro-batches")
        if len(self.waiting) >= waiting_max(self.plan, self.log.stage):
            raise TooBusy("too many micro-batches of this step were never answered")

    def put(self, one: _Computed) -> None:
        """Note a micro-batch, or what is known of it now."""
        self.waiting[one.record.microbatch_id] = one

    def step(self, record: StepRecord) -> None:
        """Record a step with the messages of its micro-batches, and those that it does not count before it."""
        counted = [self.waiting.pop(one.microbatch_id) for one in record.microbatches]
        self.log.records.append(record)
        self.let_go()
        messages = tuple(one.messages for one in counted)
        self._list(one.record for one in counted)
        if self.window is not None:
            if self.window.start_root == NO_DIGEST and record.components is not None:
                self.window.start_root = merkle_root(record.components)
            self.window.events.append(StepTaken(record.step, messages, record.dropped))

    def let_go(self) -> None:
        """Record the micro-batches that no step will count: the weights change, or the segment ends."""
        left = sorted(self.waiting.values(), key=lambda one: one.record.microbatch_id)
        self.waiting = {}
        self._list(one.record for one in left)
        if self.window is not None and left:
            self.window.events.append(Uncounted(tuple(one.messages for one in left)))

    def _list(self, records: Iterable[MicrobatchRecord]) -> None:
        for record in records:
            entry = entry_of(record, self.window_index)
            self.sent[entry.place] = entry


class SegmentRecorder:
    """The jobs of one seat, run by its worker thread."""

    def __init__(self, shard: Shard, seat: int, *, keeps_windows: bool) -> None:
        self.shard = shard
        self._seat = seat
        self._keeps_windows = keeps_windows
        self._movements = Movements()
        self._newest: MicroBatch | None = None
        """In the last stage of several, the newest request: the input of its loss check."""
        self._open: OpenSegment | None = None

    @property
    def may_merge(self) -> bool:
        """True if the segment has a step, or needs none, and no gradient waits for the next."""
        opened = self._open
        if opened is None or not self.shard.is_between_steps:
            return False
        return opened.plan.is_final_averaging or opened.log.num_steps > 0

    # --- segments ---

    def begin(
        self, plan: RoundPlan, anchor: tuple[Tensor, Digest] | None, is_shown: bool = True
    ) -> SegmentLog:
        """Open the segment of ``plan.round`` and return its log.

        ``anchor`` replaces the current anchor after the start root is hashed. If not ``is_shown``, no replay
        windows are kept.
        """
        shard = self.shard
        shard.begin_segment()
        log = SegmentLog(
            shard.stage, self._seat, plan.round, shard.components(), source=shard.source
        )
        window = None
        if self._keeps_windows and is_shown:
            key = WindowKey(plan.run, plan.round, shard.stage, self._seat, 0)
            keeps_end, root = not shard.spec.is_exact, merkle_root(log.start)
            window = OpenWindow(key, shard.state(), keeps_end, root)
        before = (shard.anchor_P, shard.anchor_root)
        self._open = OpenSegment(plan, log, shard.tokens_total, before, window)
        if anchor is not None:
            shard.set_anchor(*anchor)
            if window is not None:
                window.events.append(AnchorSet(anchor[1]))
        return log

    def close(self, merges: Sequence[Merge], offers: Sequence[SentEntry] = ()) -> list[WindowData]:
        """Step with the gradients that have arrived, apply waiting merges, and return the windows completed.

        ``offers`` are the entries of the fragments that were offered in this segment.
        """
        opened, shard = self._opened(), self.shard
        windows = list[WindowData]()
        if opened.log.num_steps < opened.plan.steps_max:
            windows = self.step(merges)
        elif self.may_merge:
            self._merge(opened, merges)
        opened.let_go()
        entries = (*opened.sent.values(), *offers)
        opened.log.sent = tuple(sorted(entries, key=lambda entry: entry.place))
        if opened.log.records:
            shard.source = None
        else:
            shard.set_anchor(*opened.anchor_before)
        shard.begin_segment()
        if opened.log.records and opened.window is not None:
            end = shard.state() if opened.window.keeps_end else None
            windows.append(opened.window.done(is_last=True, end=end))
        opened.log.tokens = shard.tokens_total - opened.tokens_before
        opened.log.end = shard.components()
        self._open = None
        return windows

    # --- steps and fragments ---

    def step(self, merges: Sequence[Merge]) -> list[WindowData]:
        """Take a step if there are gradients, then merge; return the windows completed, at most one."""
        opened, shard = self._opened(), self.shard
        windows = list[WindowData]()
        if not shard.is_between_steps:
            step, window = opened.log.num_steps, opened.window
            begun = step // shard.spec.checks.window_steps
            if window is not None and begun > window.key.window:
                is_short = is_bare(shard.spec, begun)
                windows.append(window.turn(shard.numbers() if is_short else shard.state()))
            record = shard.step(opened.plan, step)
            if record is not None:  # else the gradients were lost with a device
                opened.step(record)
        if self.may_merge:
            self._merge(opened, merges)
        return windows

    def snapshot(self, exchange: int) -> FragmentSnapshot:
        """Copy the fragment of an exchange to be offered.

        Raises ``TooBusy`` without an open segment, if offered too often, or after a later exchange of it.
        """
        opened = self._open
        if opened is None:
            raise TooBusy("the segment is over")
        log = opened.log
        if len(log.snapshots) >= SNAPSHOTS_MAX * opened.plan.exchanges:
            raise TooBusy(f"a fragment is offered at most {SNAPSHOTS_MAX} times in a segment")
        if not self.shard.may_offer(exchange):
            raise TooBusy("a later trade of this fragment has begun")
        snapshot = replace(self.shard.snapshot(exchange), window=opened.window_index)
        log.snapshots.append((len(log.records), exchange))
        if opened.window is not None:
            opened.window.events.append(SnapshotTaken(exchange))
        return snapshot

    def clip_or_reject(self, tokens: TokenSource, merge: Merge) -> Merge:
        """Return the merge unchanged, with a clipped weight, or as a solo step
        (training/averaging/robust.py).
        """
        shard, outer = self.shard, self.shard.spec.outer
        before: float | None = None
        after: float | None = None
        if outer.loss_margin_nano and self._open is not None and not merge.is_final_averaging:
            inputs = (shard, self._open.plan, tokens, self._seat, self._newest)
            before, after = probe_loss(*inputs, None), probe_loss(*inputs, merge)
        return clip_or_reject(merge, self._movements, before, after, outer)

    def merge(self, merges: Sequence[Merge]) -> bool:
        """Merge between two steps; return False, changing nothing, if a merge is not possible now."""
        if self._open is None or not self.may_merge:
            return False
        self._merge(self._open, merges)
        return True

    def _merge(self, opened: OpenSegment, merges: Sequence[Merge]) -> None:
        """Apply each exchange once: a segment's leaves on the ledger have room for one merge of each."""
        for merge in merges:
            exchange = merge.snapshot.exchange
            if exchange in opened.merged or not self.shard.is_offered(merge.snapshot):
                continue
            opened.merged.add(exchange)
            opened.let_go()
            record: MergeRecord = self.shard.merge(merge)
            opened.log.records.append(record)
            if opened.window is not None:
                opened.window.merge(merge)

    # --- micro-batches ---

    def forward(
        self, tokens: TokenSource, plan: RoundPlan, request: MicroBatch
    ) -> tuple[bytes, Passed]:
        """Compute a micro-batch in a middle stage: (output on the wire, pass)."""
        opened = self._opened_for(request.round)
        output, passed = self.shard.forward(tokens, plan, request)
        opened.put(_Computed(passed.record, request))
        return output, passed

    def forward_tokens(
        self, tokens: TokenSource, plan: RoundPlan, step: int, microbatch: int
    ) -> tuple[bytes, Passed]:
        """Compute a micro-batch in the first stage of several: (output on the wire, pass)."""
        opened = self._opened_for(plan.round)
        output, passed = self.shard.forward_tokens(tokens, plan, step, microbatch, self._seat)
        opened.put(_Computed(passed.record, None))
        return output, passed

    def backward(self, passed: Passed, request: MicroBatch | None, reply: MicroBatchGrad) -> bytes:
        """Compute the backward pass and keep its messages; ``request`` is None without a stage below."""
        answer, record = self.shard.backward(passed, reply)
        self._opened().put(_Computed(record, request, reply))
        return answer

    def loss(self, tokens: TokenSource, request: MicroBatch) -> tuple[int, bytes]:
        """Compute loss and gradient in the last stage and keep the request; return (1e-6 nats, gradient)."""
        opened = self._opened_for(request.round)
        loss_micro, answer, record = self.shard.loss(tokens, opened.plan, request, self._seat)
        self._newest = request
        opened.put(_Computed(record, request))
        return loss_micro, answer

    def loss_tokens(self, tokens: TokenSource, step: int, microbatch: int) -> int:
        """Compute a micro-batch of a one-stage run and record it; return the loss in 1e-6 nats."""
        opened = self._opened()
        opened.check_room()
        plan = opened.plan
        loss_micro, record = self.shard.loss_tokens(tokens, plan, step, microbatch, self._seat)
        opened.put(_Computed(record, None))
        return loss_micro

    def _opened_for(self, round_index: RoundIndex) -> OpenSegment:
        """Return the open segment; raise ``TooBusy`` if it is of another round or takes no more."""
        opened = self._opened()
        if opened.plan.round != round_index:
            raise TooBusy(f"round {round_index} is not open here")
        opened.check_room()
        return opened

    def _opened(self) -> OpenSegment:
        if self._open is None:
            raise TooBusy("the segment is over")
        return self._open


def entry_of(record: MicrobatchRecord, window: int) -> SentEntry:
    """Return the entry of a micro-batch in the list of what its seat has sent."""
    up, down = (
        b"" if digest == NO_DIGEST else bytes(digest)
        for digest in (record.out_activation, record.out_gradient)
    )
    return SentEntry(SentKind.MICROBATCH, *record.microbatch_id, window, up, down)


def offer_entry(offer: Offer, window: int) -> SentEntry:
    """Return the entry of an offered fragment, copied in ``window``, in the list of what its seat has sent."""
    place = (SentKind.FRAGMENT, offer.key.exchange, offer.codec, 0)
    return SentEntry(*place, window, fragment_digest(offer), b"")
