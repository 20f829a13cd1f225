"""One replica of one stage: its weights, its optimizers, and the arithmetic of a micro-batch and a merge.

Core: a machine of tensors; every method runs in one worker thread, one after another.

Sender and receiver both compute from the decoded wire bytes: a replay from the logs sees the same inputs, and
the state is a function of them alone. ``OpenStep`` collects the gradients since the last optimizer step, the
records of their micro-batches, and the unanswered ones.

Legend: P parameters of the shard, B batch, T time, D hidden, R values of the residual.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding, DeviceLost, OtherBits, PeerFault, UsageError
from swarm.gossip.codecs.activations import from_wire
from swarm.placement import let_go, spilled, trim, zeros
from swarm.primitives.commitments import hash_of
from swarm.primitives.randomness import stream
from swarm.primitives.state_parts import number_component, tokens_component
from swarm.training.averaging.outer_step import (
    FragmentSnapshot,
    Merge,
    OuterState,
    merge_in_place,
)
from swarm.training.averaging.payload import (
    mean_kept,
    move_residual,
    residual_numel,
    residual_of,
)
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import draw_samples
from swarm.training.devices.engine import Engine, Gradients, LocalEngine
from swarm.training.messages import (
    NO_SEAT,
    MicroBatch,
    MicroBatchGrad,
    Passed,
    TooBusy,
    loss_micro_of,
    wire_digest,
    wire_of,
)
from swarm.training.model.bottleneck import with_ids
from swarm.training.model.operators import are_finite
from swarm.training.model.optimizer import (
    MICROBATCHES_MAX,
    OptimizerState,
    learning_rate,
    muon_matrices,
    optimizer_step,
)
from swarm.training.model.profiles import table_on
from swarm.training.model.stages import init_flat, stage_of
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import (
    MergeRecord,
    MicrobatchId,
    MicrobatchRecord,
    PendingFragment,
    ShardState,
    Source,
    StepRecord,
    no_trades_over,
    snapshots_component,
)
from swarm.types import NO_DIGEST, Digest, StageIndex

DROPPED_MAX = 1024
"""Dropped micro-batches recorded per step; further ones are not worth their bytes on the ledger."""

PIECE_VALUES = 1 << 16
"""Values of a gradient that a step's leaf covers: 256 KiB, which are hashed in a tenth of a millisecond."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Content of one optimizer step besides its gradient."""

    records: tuple[MicrobatchRecord, ...]
    dropped: tuple[MicrobatchId, ...]
    tokens: int


class OpenStep:
    """Everything since the last optimizer step."""

    def __init__(self, gradients: Gradients) -> None:
        self.gradients = gradients
        self._records: list[MicrobatchRecord] = []
        self._dropped: list[MicrobatchId] = []
        self._tokens = 0

    @property
    def is_empty(self) -> bool:
        """True if no gradient was added."""
        return not self.gradients.count

    def check_room(self) -> None:
        """Raise ``TooBusy`` if no more gradients fit into this step."""
        if self.gradients.count >= MICROBATCHES_MAX:
            raise TooBusy(f"a step counts at most {MICROBATCHES_MAX} micro-batches")

    def add(self, grad_P: Tensor, tokens: int, record: MicrobatchRecord) -> None:
        """Count a micro-batch of ``tokens`` tokens.

        Raises ``PeerFault``, changing nothing, for a gradient that is not finite or far too large.
        """
        self.gradients.add(grad_P)
        self._records.append(record)
        self._tokens += tokens

    def drop(self, microbatch_id: MicrobatchId) -> None:
        """Note a micro-batch that was sent and never answered."""
        if len(self._dropped) < DROPPED_MAX:
            self._dropped.append(microbatch_id)

    def take_mean(self) -> Tensor | None:
        """Return the mean gradient_P in the memory of the sum; None if there is none, or a device lost it.

        The records stay until ``take``.
        """
        try:
            return None if self.is_empty else self.gradients.take_mean()
        except DeviceLost:
            return None

    def take(self) -> Gathered:
        """Return the collected records, sorted to be independent of arrival, and begin the next step."""
        # Replaced first and read afterwards: drops are noted from another thread.
        records, self._records = self._records, []
        dropped, self._dropped = self._dropped, []
        tokens, self._tokens = self._tokens, 0
        self.gradients.clear()
        by_id = sorted(records, key=lambda record: record.microbatch_id)
        return Gathered(tuple(by_id), tuple(sorted(dropped)), tokens)


class Shard:
    """The state of protocol.md section 5: weights and moments on the engine's home, the rest on the CPU."""

    def __init__(
        self,
        spec: RunSpec,
        stage: StageIndex,
        params_P: Tensor,
        clock: Callable[[], float] = float,
        engine: Engine | None = None,
    ) -> None:
        self.spec = spec
        self.stage = stage
        self.module = stage_of(spec, stage)
        self.spans = self.module.plan.fragments(spec.outer.fragments)
        self.engine: Engine = engine or LocalEngine(self.module)
        self.engine.watch(self._forget)
        home = self.engine.home
        self.params_P = params_P.to(home, copy=True)
        is_elsewhere = spec.is_exact and home.type != "cpu"
        self._ops = table_on(spec.numerics, str(home)) if is_elsewhere else self.module.ops
        """Operators of a step; native ones take tensors of any device."""
        self.matrices = muon_matrices(spec.optimizer, self.module.plan)
        """Matrices that Muon rules; none in a run with AdamW."""
        self.optimizer = OptimizerState.zeros(params_P.numel(), self.matrices, self.params_P.device)
        self.phi_P = spilled(params_P)
        self.momentum_P = zeros(params_P.numel())
        self.residual_R = zeros(residual_numel(spec, params_P.numel()))
        self._are_lent = False
        """True if a state that was handed out holds the three slow tensors: the next merge replaces them."""
        self.anchor_P = spilled(params_P)
        self.anchor_root = hash_of(params_P)
        self.weights = 0
        """Number of weight changes: a gradient counts only with the weights of its forward pass."""
        self.hashing_s = 0.0
        """Seconds spent on hashing the state, by ``clock``: the cost of being verifiable."""
        self._clock = clock
        self.tokens_total = 0
        self.tokens_at_sync = [0] * spec.outer.fragments
        self.snapshots: dict[int, PendingFragment] = {}
        """By fragment: (exchange, tokens it was offered with, theta), if offered and not merged yet."""
        self.trades_over = no_trades_over(spec)
        """For each fragment, the trades of this segment that its last merge ended."""
        self.source: Source | None = None
        """Origin of this state, until a segment of it is closed; None if it is a committed end."""
        self._open = OpenStep(self.engine.gradients(params_P.numel()))
        self._hashed: dict[str, Digest] = {}
        """Hashes of the slow tensors, until they change."""

    @classmethod
    def initial(cls, spec: RunSpec, stage: StageIndex, base_W: Tensor | None = None) -> "Shard":
        """Return the shard that every run starts from; ``base_W`` are the weights below its adapter, if any."""
        module = stage_of(spec, stage, base_W)
        engine = LocalEngine(module)
        return cls(spec, stage, init_flat(module.plan, spec.seed), engine=engine)

    # --- micro-batches ---

    def forward_tokens(
        self, tokens: TokenSource, plan: RoundPlan, step: int, microbatch: int, seat: int
    ) -> tuple[bytes, Passed]:
        """Compute stage 0 of several: read the inputs; return (output on the wire, pass)."""
        inputs_BT, _, root = draw_samples(tokens, plan, (seat, step, microbatch))
        return self._forward(inputs_BT, (seat, step, microbatch), -1, NO_DIGEST, root)

    def forward(
        self, tokens: TokenSource, plan: RoundPlan, request: MicroBatch
    ) -> tuple[bytes, Passed]:
        """Compute a middle stage: decode, compute, encode; raise ``PeerFault`` for non-finite values.

        Behind a bottleneck the ids of the tokens are looked up by their samples.
        """
        root, ids_BT = NO_DIGEST, None
        if self.spec.model.bottleneck_rank:
            ids_BT, _, root = draw_samples(tokens, plan, request.microbatch_id)
        inputs_BTJ, wire = self.received(request, ids_BT), wire_digest(request.payload)
        return self._forward(inputs_BTJ, request.microbatch_id, request.source, wire, root)

    def received(self, request: MicroBatch, ids_BT: Tensor | None) -> Tensor:
        """Return the rows BTJ that a stage computes from: decoded wire bytes, behind a bottleneck with ids.

        Raises ``BadEncoding`` for a payload that no sender writes, or of another shape than its samples.
        """
        if ids_BT is not None and ids_BT.shape != request.shape[:2]:
            raise BadEncoding("a micro-batch of another shape than its samples")
        x_BTS = from_wire(request.payload, request.shape, self.spec.wire.activations)
        return x_BTS if ids_BT is None else with_ids(self.spec.model, x_BTS, ids_BT)

    def backward(self, passed: Passed, reply: MicroBatchGrad) -> tuple[bytes, MicrobatchRecord]:
        """Add the gradient of a returned micro-batch to the sum; return the one for the stage below (or b"").

        Raises ``PeerFault``, changing nothing, if it is for other activations or gives no finite gradient, and
        ``TooBusy`` if the weights have changed since the forward pass.
        """
        if reply.activations != passed.record.out_activation:
            raise OtherBits("a gradient for other activations than were computed")
        if passed.weights != self.weights:
            raise TooBusy("the weights moved before the answer came")
        self._open.check_room()
        received = from_wire(reply.payload, passed.shape, self.spec.wire.activations)
        grad_inputs, grad_P = self.engine.backward(passed.forward, received, self._open.gradients)
        with self._taken_back():
            answer = b"" if grad_inputs is None else wire_of(self.spec, grad_inputs)
        record = replace(
            passed.record,
            in_gradient=wire_digest(reply.payload),
            out_gradient=wire_digest(answer) if answer else NO_DIGEST,
            destination=reply.destination,
        )
        self._open.add(grad_P, passed.shape[0] * passed.shape[1], record)
        return answer, record

    def loss(
        self, tokens: TokenSource, plan: RoundPlan, request: MicroBatch, seat: int
    ) -> tuple[int, bytes, MicrobatchRecord]:
        """Compute the last stage, with labels by sample id: (loss in 1e-6 nats, gradient of the input, record).

        Raises ``PeerFault``, changing nothing, if the peer's activations give no finite gradient.
        """
        self._open.check_room()
        microbatch_id = request.microbatch_id
        ids_BT, labels_BT, root = draw_samples(tokens, plan, microbatch_id)
        given = (self.params_P, self.weights, self.received(request, ids_BT), labels_BT)
        loss, grad_inputs, grad_P = self.engine.loss(*given, self._open.gradients)
        assert grad_inputs is not None, "a stage behind another has inputs with a gradient"
        with self._taken_back():
            loss_micro, answer = loss_micro_of(loss), wire_of(self.spec, grad_inputs)
        record = MicrobatchRecord(
            *microbatch_id,
            wire_digest(request.payload),
            NO_DIGEST,
            NO_DIGEST,
            wire_digest(answer),
            request.source,
            seat,
            root,
        )
        self._open.add(grad_P, labels_BT.numel(), record)
        return loss_micro, answer, record

    def loss_tokens(
        self, tokens: TokenSource, plan: RoundPlan, step: int, microbatch: int, seat: int
    ) -> tuple[int, MicrobatchRecord]:
        """Compute a micro-batch of a one-stage run and add its gradient: (loss in 1e-6 nats, record)."""
        self._open.check_room()
        microbatch_id = (seat, step, microbatch)
        inputs_BT, labels_BT, root = draw_samples(tokens, plan, microbatch_id)
        given = (self.params_P, self.weights, inputs_BT, labels_BT)
        loss, _, grad_P = self.engine.loss(*given, self._open.gradients)
        with self._taken_back():
            loss_micro, none = loss_micro_of(loss), NO_DIGEST
        record = MicrobatchRecord(*microbatch_id, none, none, none, none, -1, -1, root)
        self._open.add(grad_P, inputs_BT.numel(), record)
        return loss_micro, record

    def drop(self, origin: int, step: int, microbatch: int) -> None:
        """Record a micro-batch that was sent and never answered: an unpaid statement of this seat."""
        self._open.drop((origin, step, microbatch))

    def forget_gradients(self) -> None:
        """Drop the gradients since the last step: a replay has what it wanted of their micro-batches."""
        self._open.take()

    # --- steps ---

    def begin_segment(self) -> None:
        """Drop unfinished work of the last segment, which belongs to no record."""
        self._open.take()
        self.snapshots.clear()
        self.trades_over = no_trades_over(self.spec)
        self.weights += 1

    @property
    def is_between_steps(self) -> bool:
        """True if no gradient waits for a step: only then may a fragment be merged."""
        return self._open.is_empty

    def step(self, plan: RoundPlan, step: int) -> StepRecord | None:
        """Take the optimizer step with the collected gradients; return None if there are none or they are lost.

        The state's hashes are taken before every ``window_steps``-th step. Raises ``PeerFault`` for a step that
        is not finite: its gradients are lost, and the state is as it was.
        """
        if self._open.is_empty:
            return None
        components = self.components() if step % plan.spec.checks.window_steps == 0 else None
        mean_P = self._open.take_mean()
        if mean_P is None:
            return None
        gathered = self._open.take()
        spec = self.spec
        gradient = _piece_digest(plan, self.stage, step, mean_P)
        rate = learning_rate(spec.optimizer, spec.inner_steps_max, plan.round, step)
        optimizer_step(
            self._ops,
            self.params_P,
            mean_P.to(self.engine.home),
            self.optimizer,
            rate,
            spec.optimizer,
            self.module.plan.decayed,
            self.matrices,
        )
        self.weights += 1
        self.tokens_total += gathered.tokens
        return StepRecord(
            step=step,
            components=components,
            microbatches=gathered.records,
            dropped=gathered.dropped,
            tokens=gathered.tokens,
            gradient=gradient,
        )

    # --- fragments ---

    def may_offer(self, exchange: int) -> bool:
        """Return True unless its trade is over, or a later one of the fragment was offered in this segment."""
        fragment, trade = self.spec.outer.fragment_of(exchange), self.spec.outer.trade_of(exchange)
        held = self.snapshots.get(fragment)
        is_over = bool(self.trades_over) and trade < self.trades_over[fragment]
        return not is_over and (held is None or held[0] <= exchange)

    def snapshot(self, exchange: int) -> FragmentSnapshot:
        """Copy the fragment of an exchange between two steps."""
        fragment = self.spec.outer.fragment_of(exchange)
        tokens = self.tokens_total - self.tokens_at_sync[fragment]
        theta_P = spilled(self.params_P[self.spans[fragment].slice])
        self.snapshots[fragment] = (exchange, tokens, theta_P)
        trim()
        return self._snapshot(exchange, tokens, theta_P)

    def offered(self, exchange: int) -> FragmentSnapshot | None:
        """Return the snapshot of an exchange that waits for its merge, from the state; None without one."""
        held = self.snapshots.get(self.spec.outer.fragment_of(exchange))
        return None if held is None or held[0] != exchange else self._snapshot(*held)

    def is_offered(self, snapshot: FragmentSnapshot) -> bool:
        """Return True if a snapshot was taken in this segment and still waits for its merge."""
        held = self.snapshots.get(snapshot.fragment)
        return held is not None and held[2] is snapshot.theta_P

    def merge(self, merge: Merge) -> MergeRecord:
        """Apply one outer step to a fragment (``training/averaging/outer_step.py``), between two steps.

        Only this changes the residual, if the payload sent of the fragment has been acknowledged. In a run
        that keeps the mean of a pair the partner counts by the difference of the two payloads.
        """
        if not self._open.is_empty:
            raise UsageError("a fragment is merged between two steps")
        merge = mean_kept(self.spec, merge)
        snapshot = merge.snapshot
        span = self.spans[snapshot.fragment]
        self._own_slow()
        slow = OuterState(self.phi_P[span.slice], self.momentum_P[span.slice])
        weight_nano = merge_in_place(merge, slow, self.params_P[span.slice])
        if merge.sent is not None:
            reported_F, numel = merge.sent.residual_P, self.params_P.numel()
            move_residual(self.residual_R, span, numel, reported_F)
        self._hashed.clear()
        self.weights += 1
        self.tokens_at_sync[snapshot.fragment] = self.tokens_total
        self.snapshots.pop(snapshot.fragment, None)
        if self.trades_over:
            self.trades_over[snapshot.fragment] = 1 + self.spec.outer.trade_of(snapshot.exchange)
        return MergeRecord(
            exchange=snapshot.exchange,
            partner=merge.partner,
            partner_seat=merge.partner_seat,
            my_payload=merge.my_payload,
            partner_payload=merge.partner_payload,
            weight_nano=weight_nano,
            components=self.components(),
        )

    def set_anchor(self, anchor_P: Tensor, root: Digest) -> None:
        """Set a new canonical checkpoint: from the next snapshot on, int8 is relative to it."""
        self.anchor_P, self.anchor_root = anchor_P, root

    # --- the state ---

    def phi(self) -> Tensor:
        """Return a copy of the slow weights, which are the checkpoint of this shard."""
        return spilled(self.phi_P)

    def state(self) -> ShardState:
        """Return everything that the next step, snapshot or merge depends on, as it is now."""
        self._are_lent = True
        return ShardState(
            params_P=spilled(self.params_P),
            m_P=spilled(self.optimizer.m_P),
            v_A=spilled(self.optimizer.v_A),
            phi_P=self.phi_P,
            momentum_P=self.momentum_P,
            step=self.optimizer.step,
            anchor_root=self.anchor_root,
            tokens_total=self.tokens_total,
            tokens_at_sync=tuple(self.tokens_at_sync),
            snapshots=self._offered_by_exchange(),
            residual_R=self.residual_R,
            trades_over=tuple(self.trades_over),
        )

    def numbers(self) -> ShardState:
        """Return the state without its values: tensors that have none stand for them."""
        nothing = self.residual_R.new_empty(0)
        return ShardState(
            params_P=nothing,
            m_P=nothing,
            v_A=nothing,
            phi_P=nothing,
            momentum_P=nothing,
            step=self.optimizer.step,
            anchor_root=self.anchor_root,
            tokens_total=self.tokens_total,
            tokens_at_sync=tuple(self.tokens_at_sync),
            snapshots=tuple((e, tokens, nothing) for e, tokens, _ in self._offered_by_exchange()),
            residual_R=nothing,
            trades_over=tuple(self.trades_over),
        )

    def components(self) -> tuple[Digest, ...]:
        """Return the hashes of the ten parts of the state, in the order of protocol.md section 5.

        Raises ``PeerFault`` if a value is not finite, which honest steps from an honest state never give.
        """
        began = self._clock()
        fast = (self.params_P, self.optimizer.m_P, self.optimizer.v_A)
        hashes = (
            *(_finite_hash(tensor.cpu()) for tensor in fast),
            number_component(self.optimizer.step),
            self._slow_hash("phi", self.phi_P),
            self._slow_hash("momentum", self.momentum_P),
            self._slow_hash("residual", self.residual_R),
            self.anchor_root,
            tokens_component(self.tokens_total, self.tokens_at_sync),
            snapshots_component(self._offered_by_exchange(), self.trades_over),
        )
        trim()
        self.hashing_s += self._clock() - began
        return hashes

    # --- helpers ---

    @contextmanager
    def _taken_back(self) -> Generator[None]:
        """Take the gradient that was just computed out of the sum if the block finds a fault."""
        try:
            yield
        except PeerFault:
            self.engine.take_back()
            raise

    def _forget(self) -> None:
        """Drop the gradients of this step and invalidate waiting forward passes: a device was lost."""
        self._open.take()
        self.weights += 1

    def _slow_hash(self, name: str, tensor: Tensor) -> Digest:
        """Return the hash of a slow tensor, computed once: only merges and ``put_slow`` change them."""
        known = self._hashed.get(name)
        if known is None:
            known = self._hashed[name] = _finite_hash(tensor)
            let_go()
        return known

    def put_slow(self, phi_P: Tensor, momentum_P: Tensor, residual_R: Tensor) -> None:
        """Replace the slow tensors; the next merge writes to copies of them, not to these."""
        self.phi_P, self.momentum_P, self.residual_R = phi_P, momentum_P, residual_R
        self._are_lent = True
        self._hashed.clear()

    def _own_slow(self) -> None:
        """Copy the slow tensors if somebody else holds them, too."""
        if self._are_lent:
            self.phi_P, self.momentum_P = spilled(self.phi_P), spilled(self.momentum_P)
            self.residual_R = spilled(self.residual_R)
            self._are_lent = False

    def _forward(
        self,
        inputs: Tensor,
        microbatch_id: MicrobatchId,
        source: int,
        in_activation: Digest,
        ids_root: Digest,
    ) -> tuple[bytes, Passed]:
        forward = self.engine.forward(self.params_P, self.weights, inputs)
        payload = wire_of(self.spec, forward.output)
        batch, times, width = forward.output.shape
        digests = (in_activation, NO_DIGEST, wire_digest(payload), NO_DIGEST)
        record = MicrobatchRecord(*microbatch_id, *digests, source, NO_SEAT, ids_root)
        return payload, Passed(forward, (batch, times, width), record, self.weights)

    def _snapshot(self, exchange: int, tokens: int, theta_P: Tensor) -> FragmentSnapshot:
        fragment = self.spec.outer.fragment_of(exchange)
        span = self.spans[fragment]
        anchor_P, phi_P = self.anchor_P[span.slice], self.phi_P[span.slice]
        residual_P = spilled(residual_of(self.residual_R, span, self.params_P.numel()))
        root, step = self.anchor_root, self.optimizer.step
        return FragmentSnapshot(
            exchange=exchange,
            fragment=fragment,
            theta_P=theta_P,
            anchor_P=anchor_P,
            anchor_root=root,
            tokens=tokens,
            step=step,
            phi_P=phi_P,
            residual_P=residual_P,
        )

    def _offered_by_exchange(self) -> tuple[PendingFragment, ...]:
        return tuple(sorted(self.snapshots.values(), key=lambda held: held[0]))


def _piece_digest(plan: RoundPlan, stage: StageIndex, step: int, mean_P: Tensor) -> Digest:
    """Return the hash of a piece of a step's mean gradient, drawn by the beacon of the round.

    Neither logs nor messages have it, so who did not compute the step cannot write its leaf.
    """
    context = (plan.run_digest, plan.round, stage, step)
    first = piece_start(plan.beacon, *context, numel=mean_P.numel())
    return hash_of(mean_P[first : first + PIECE_VALUES].cpu())


def piece_start(
    beacon: Digest, run_digest: Digest, round_index: int, stage: int, step: int, *, numel: int
) -> int:
    """Return the first of the ``numel`` values of a step's mean gradient that its leaf covers."""
    context = (run_digest, round_index, stage, step)
    pieces = -(-numel // PIECE_VALUES)
    return PIECE_VALUES * stream(beacon, "training.gradient-piece", *context).below(pieces)


def _finite_hash(tensor: Tensor) -> Digest:
    if not are_finite(tensor):
        # The bits of a NaN differ between machines, so peers could not agree on the hash.
        raise PeerFault("a state that is not finite")
    return hash_of(tensor)
