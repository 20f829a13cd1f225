"""One replica of one stage: its weights, its optimizers, and the arithmetic of a micro-batch and a merge.

Core: a machine of tensors; every method runs in one worker thread, one after another.

What came over the wire is decoded first and computed from, on both sides: a replay from the logs sees
the same inputs. Legend: P parameters, B batch, T time, D hidden.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from swarm.codec import encode
from swarm.crypto import fast_digest
from swarm.gossip.quantize import from_wire, to_wire
from swarm.spec import NANO, RunSpec
from swarm.tensors import hash_of, tensor_hash
from swarm.training.data import TokenSource, sample_ids, sample_ids_root, windows
from swarm.training.fragments import Merge, Snapshot
from swarm.training.inner import AdamState, GradientSum, adamw_step, learning_rate
from swarm.training.messages import MicroBatch, MicroBatchGrad, wire_digest
from swarm.training.outer import OuterState, Partner, advanced, outer_step
from swarm.training.outgoing import Passed
from swarm.training.round_plan import RoundPlan
from swarm.training.segment import MergeRecord, MicrobatchRecord, StepRecord
from swarm.training.stages import init_flat, run_backward, run_forward, run_loss, stage_of
from swarm.types import NO_DIGEST, Digest, StageIndex

MICRO = 1_000_000


def _no_clock() -> float:
    return 0.0


class Shard:
    """The state of protocol.md section 5 with the operations that move it."""

    def __init__(
        self,
        spec: RunSpec,
        stage: StageIndex,
        params_P: Tensor,
        clock: Callable[[], float] = _no_clock,
    ) -> None:
        self.spec = spec
        self.stage = stage
        self.module = stage_of(spec, stage)
        self.spans = self.module.plan.fragments(spec.outer.fragments)
        self.params_P = params_P.clone()
        self.adam = AdamState.zeros(params_P.numel())
        self.phi_P = params_P.clone()
        self.momentum_P = torch.zeros_like(params_P)
        self.anchor_P = params_P.clone()
        self.anchor_root = hash_of(params_P)
        self.hashing_s = 0.0
        """Time spent on hashing the state, by ``clock``: the price of being checkable."""
        self._clock = clock
        self.tokens_total = 0
        self.tokens_segment = 0
        self.tokens_at_sync = [0] * spec.outer.fragments
        self._snapshots: dict[int, Tensor] = {}
        self._gradients = GradientSum(params_P.numel())
        self._records: list[MicrobatchRecord] = []
        self._dropped: list[tuple[int, int, int]] = []

    @classmethod
    def initial(cls, spec: RunSpec, stage: StageIndex) -> "Shard":
        """The shard every run starts from."""
        return cls(spec, stage, init_flat(stage_of(spec, stage).plan, spec.seed))

    # --- micro-batches ---

    def origin_job(
        self, tokens: TokenSource, plan: RoundPlan, step: int, microbatch: int, seat: int
    ) -> tuple[bytes, Passed]:
        """Stage 0 of several: read the inputs and pass them on."""
        inputs_BT, _, root = self._samples(tokens, plan, seat, step, microbatch)
        forward = run_forward(self.module, self.params_P, inputs_BT)
        payload = to_wire(forward.output)
        batch, times, width = forward.output.shape
        return payload, Passed(
            forward,
            (batch, times, width),
            seat,
            step,
            microbatch,
            -1,
            NO_DIGEST,
            wire_digest(payload),
            root,
        )

    def forward_job(self, request: MicroBatch) -> tuple[bytes, Passed]:
        """A middle stage: decode, compute, encode."""
        shape = (request.batch, request.length, request.features)
        forward = run_forward(self.module, self.params_P, from_wire(request.payload, shape))
        payload = to_wire(forward.output)
        return payload, Passed(
            forward,
            shape,
            request.origin,
            request.step,
            request.microbatch,
            request.source,
            wire_digest(request.payload),
            wire_digest(payload),
            NO_DIGEST,
        )

    def backward_job(self, passed: Passed, reply: MicroBatchGrad) -> bytes:
        """The gradient came back: add ours to the sum, return the one for the stage below (or b"").

        Raises ``PeerFault`` when what the peer sent gives no finite gradient.
        """
        grad_BTD = from_wire(reply.payload, passed.shape)
        grad_inputs, grad_P = run_backward(passed.forward, grad_BTD)
        self._gradients.add(grad_P)
        answer = b"" if grad_inputs is None else to_wire(grad_inputs)
        self._count(passed.shape[0] * passed.shape[1])
        self._records.append(
            MicrobatchRecord(
                passed.origin,
                passed.step,
                passed.microbatch,
                passed.in_activation,
                wire_digest(reply.payload),
                passed.out_activation,
                wire_digest(answer) if answer else NO_DIGEST,
                passed.source,
                reply.destination,
                passed.ids_root,
            )
        )
        return answer

    def loss_job(
        self, tokens: TokenSource, plan: RoundPlan, request: MicroBatch, seat: int
    ) -> tuple[int, bytes]:
        """The last stage: labels by sample id, loss in 1e-6 nats and the gradient of the input."""
        _, labels_BT, root = self._samples(
            tokens, plan, request.origin, request.step, request.microbatch
        )
        shape = (request.batch, request.length, request.features)
        inputs = from_wire(request.payload, shape)
        loss, grad_inputs, grad_P = run_loss(self.module, self.params_P, inputs, labels_BT)
        self._gradients.add(grad_P)
        assert grad_inputs is not None, "a stage behind another has inputs with a gradient"
        answer = to_wire(grad_inputs)
        self._count(shape[0] * shape[1])
        self._records.append(
            MicrobatchRecord(
                request.origin,
                request.step,
                request.microbatch,
                wire_digest(request.payload),
                NO_DIGEST,
                NO_DIGEST,
                wire_digest(answer),
                request.source,
                seat,
                root,
            )
        )
        return round(loss * MICRO), answer

    def whole_job(
        self, tokens: TokenSource, plan: RoundPlan, step: int, microbatch: int, seat: int
    ) -> int:
        """A run of one stage: inputs, loss and gradient in one place; returns 1e-6 nats."""
        inputs_BT, labels_BT, root = self._samples(tokens, plan, seat, step, microbatch)
        loss, _, grad_P = run_loss(self.module, self.params_P, inputs_BT, labels_BT)
        self._gradients.add(grad_P)
        self._count(inputs_BT.numel())
        none = NO_DIGEST
        self._records.append(
            MicrobatchRecord(seat, step, microbatch, none, none, none, none, -1, -1, root)
        )
        return round(loss * MICRO)

    def drop(self, origin: int, step: int, microbatch: int) -> None:
        """A micro-batch that was sent and never answered: our own statement, unpaid."""
        self._dropped.append((origin, step, microbatch))

    # --- steps ---

    def step(self, plan: RoundPlan, step: int) -> StepRecord | None:
        """Take the optimizer step with the gradients there are; None when there are none.

        The state's hashes are taken before every ``window_steps``-th step.
        """
        if not self._gradients.count:
            return None
        components = self.components() if step % plan.spec.checks.window_steps == 0 else None
        spec = self.spec
        rate = learning_rate(spec.optimizer, spec.inner_steps_max, plan.round, step)
        adamw_step(
            self.module.ops,
            self.params_P,
            self._gradients.mean(),
            self.adam,
            rate,
            spec.optimizer,
            self.module.plan.decayed,
        )
        key = _coordinates
        record = StepRecord(
            step, components, tuple(sorted(self._records, key=key)), tuple(sorted(self._dropped))
        )
        self._gradients.clear()
        self._records, self._dropped = [], []
        return record

    def take_segment_tokens(self) -> int:
        """Tokens since the last call: what the segment's commit claims."""
        tokens, self.tokens_segment = self.tokens_segment, 0
        return tokens

    # --- fragments ---

    def snapshot(self, fragment: int) -> Snapshot:
        """Copy a fragment between two steps."""
        span = self.spans[fragment].slice
        tokens = self.tokens_total - self.tokens_at_sync[fragment]
        theta_P = self.params_P[span].clone()
        self._snapshots[fragment] = theta_P
        return Snapshot(
            fragment,
            theta_P,
            self.anchor_P[span],
            self.anchor_root,
            tokens,
            self.adam.step,
        )

    def merge(self, merge: Merge) -> MergeRecord:
        """Apply one outer step to a fragment (docs/spec/training.md section 3)."""
        snapshot = merge.snapshot
        span = self.spans[snapshot.fragment].slice
        partner = None
        if merge.theta_hat_P is not None:
            partner = Partner(merge.theta_hat_P, merge.weight_nano / NANO)
        self._snapshots.pop(snapshot.fragment, None)
        slow = OuterState(self.phi_P[span], self.momentum_P[span])
        slow = outer_step(slow, snapshot.theta_P, partner, merge.scalars)
        self.phi_P[span] = slow.phi_F
        self.momentum_P[span] = slow.momentum_F
        self.params_P[span] = advanced(slow.phi_F, self.params_P[span], snapshot.theta_P)
        self.tokens_at_sync[snapshot.fragment] = self.tokens_total
        return MergeRecord(
            snapshot.fragment,
            merge.partner,
            merge.partner_seat,
            merge.my_payload,
            merge.partner_payload,
            merge.weight_nano,
            self.components(),
        )

    def is_offered(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot was taken in this segment and still waits for its merge."""
        return self._snapshots.get(snapshot.fragment) is snapshot.theta_P

    def abandon_snapshots(self) -> None:
        """The segment closes: what was offered and not merged by now never will be."""
        self._snapshots.clear()

    def set_anchor(self, anchor_P: Tensor, root: Digest) -> None:
        """A new canonical checkpoint: from the next snapshot on, int8 is relative to it."""
        self.anchor_P, self.anchor_root = anchor_P, root

    def phi(self) -> Tensor:
        """A copy of the slow weights: what a checkpoint of this shard is."""
        return self.phi_P.clone()

    def components(self) -> tuple[Digest, ...]:
        """The hashes of the ten parts of the state, in the order of protocol.md section 5."""
        began = self._clock()
        empty = tensor_hash("float32", (0,), b"")
        hashes = (
            hash_of(self.params_P),
            hash_of(self.adam.m_P),
            hash_of(self.adam.v_P),
            _number(self.adam.step),
            hash_of(self.phi_P),
            hash_of(self.momentum_P),
            empty,
            self.anchor_root,
            _number(self.tokens_total),
            self._snapshots_digest() if self._snapshots else empty,
        )
        self.hashing_s += self._clock() - began
        return hashes

    # --- helpers ---

    def _snapshots_digest(self) -> Digest:
        """Fragments offered and not merged yet: a replay that starts here needs them."""
        held = sorted(self._snapshots.items())
        return fast_digest("snapshots", *(encode((f, hash_of(theta))) for f, theta in held))

    def _samples(
        self, tokens: TokenSource, plan: RoundPlan, origin: int, step: int, microbatch: int
    ) -> tuple[Tensor, Tensor, Digest]:
        spec = self.spec
        ids = sample_ids(
            plan.beacon,
            plan.run_digest,
            origin,
            plan.round,
            step,
            microbatch,
            spec.microbatch_size,
            len(tokens) - spec.model.seq_len,
        )
        inputs_BT, labels_BT = windows(tokens, ids, spec.model.seq_len)
        return inputs_BT, labels_BT, sample_ids_root(ids)

    def _count(self, tokens: int) -> None:
        self.tokens_total += tokens
        self.tokens_segment += tokens


def _coordinates(record: MicrobatchRecord) -> tuple[int, int, int]:
    return record.origin, record.step, record.microbatch


def _number(value: int) -> Digest:
    return tensor_hash("int64", (), value.to_bytes(8, "little"))
