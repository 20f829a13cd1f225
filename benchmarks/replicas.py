"""The replicas of a simulated swarm: who is there, what their inner steps are, how far they are apart.

The arithmetic is that of the cores (stages, inner, lag, routing), of many replicas at once where they can
(stacked.py); who comes, goes and rests is drawn from the seed, and all variants of one seed see the same text
in the same order.

Legend: P parameters of a shard, R replicas, B sequences, T time.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.stacked import stacked_gradients
from benchmarks.variants import BATCH, REPLICAS, Variant, spec_of, steps_of
from swarm.gossip.codecs.activations import from_wire, to_wire
from swarm.gossip.pairing import SeatKey
from swarm.primitives.crypto import digest, fast_digest
from swarm.primitives.randomness import stream
from swarm.training.averaging.adoption import OfferedState, adopt
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import sample_ids, windows
from swarm.training.inference.evaluate import heldout_loss, whole_model
from swarm.training.model.bottleneck import with_ids
from swarm.training.model.optimizer import (
    GradientSum,
    OptimizerState,
    learning_rate,
    muon_matrices,
    optimizer_step,
)
from swarm.training.model.profiles import NATIVE, table
from swarm.training.model.stages import (
    Forward,
    Stage,
    init_flat,
    plan_stages,
    run_backward,
    run_forward,
    run_loss,
)
from swarm.training.plan import Roster, path
from swarm.training.terms import is_trailing, pulls_only
from swarm.types import PeerId, RoundIndex

SLOW_PERIOD = 2
"""A slow replica takes one step while the others take so many."""


@dataclass(slots=True)
class Seat:
    """One replica of one stage."""

    params_P: Tensor
    phi_P: Tensor
    momentum_P: Tensor
    residual_P: Tensor
    optimizer: OptimizerState
    tokens_at_sync: list[int]
    tokens: int = 0
    tokens_at_boundary: int = 0
    on_its_way: int = 0
    """Tokens of the round before this one: its commit is not final yet."""
    last_tokens: int = 0
    """Tokens of the last commit that is: what the roster of this round shows; 0: none yet."""
    since_round: int | None = None
    """Round in which it joined; a replica of the first round never only pulls."""


@dataclass(slots=True)
class Found:
    """Result of one simulated run."""

    nats: float = math.nan
    """Held-out, of the mean of all replicas: what consensus ends with."""
    replica_nats: list[float] = field(default_factory=list[float])
    """Held-out, of each replica alone, before the final averaging."""
    stds: list[float] = field(default_factory=list[float])
    """Across replicas, at the end of each round."""
    rates: list[float] = field(default_factory=list[float])
    butterfly_std: float = math.nan
    losses: list[float] = field(default_factory=list[float])
    """Training loss of each round."""
    curve: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """(step, held-out nats of the mean of all replicas)."""
    tokens: int = 0
    trades: int = 0
    lost: int = 0
    parameters: int = 0
    """Of one whole model."""
    steps: int = 0
    """Ticks of the run: inner steps of a replica that is never slow."""
    wire_bytes: int = 0
    wire_values: int = 0
    cut_bytes: int = 0
    """Bytes of activations and gradients over the cuts, both directions."""
    cut_tokens: int = 0
    """Tokens of them, counted once for each cut and direction."""
    cpu_seconds: float = 0.0


class Replicas:
    """Replicas of every stage: who is there, what they are, and their inner steps."""

    def __init__(
        self,
        variant: Variant,
        seed: int,
        steps: int,
        train: TokenSource,
        heldout: TokenSource,
        replicas: int = REPLICAS,
    ) -> None:
        self.variant, self.steps = variant, steps_of(variant, steps)
        self.spec = spec_of(variant, seed, self.steps)
        self.beacon = digest("bench-train", seed.to_bytes(8, "big"))
        self.train, self.heldout = train, heldout
        plans = plan_stages(self.spec.model, variant.stages)
        self.stages = [Stage(plan, NATIVE) for plan in plans]
        self._ops = table(NATIVE.name)
        self._matrices = [muon_matrices(self.spec.optimizer, plan) for plan in plans]
        self.spans = [plan.fragments(variant.fragments) for plan in plans]
        self.whole = whole_model(self.spec.model, NATIVE)
        self.count = 1 if variant.method == "sync" else replicas
        self.anchors = [init_flat(plan, seed) for plan in plans]
        stages = range(variant.stages)
        self.seats = [[self._newcomer(s, None) for _ in range(self.count)] for s in stages]
        roster = tuple((i, 0) for i in range(replicas))
        self.rosters: list[Roster] = [roster for _ in stages]
        """Replicas of each stage with the tokens by which they get work: 0, all get as much."""
        self.keys = [SeatKey(i, _peer(i)) for i in range(self.count)]
        self.found = Found(parameters=sum(plan.num_parameters for plan in plans), steps=self.steps)

    # --- what is measured ---

    def mean(self) -> Tensor:
        """Return the whole model, averaged over replicas."""
        return torch.cat([torch.stack([s.params_P for s in row]).mean(0) for row in self.seats])

    def std(self) -> float:
        """Root mean square distance of the replicas from their mean."""
        squares, values = 0.0, 0
        for row in self.seats:
            params_RP = torch.stack([seat.params_P for seat in row]).double()
            squares += float((params_RP - params_RP.mean(0)).square().sum())
            values += params_RP.numel()
        return math.sqrt(squares / values)

    def nats(self, flat_P: Tensor, num_windows: int) -> float:
        """Held-out loss of a whole model."""
        return heldout_loss(self.whole, flat_P, self.heldout, num_windows=num_windows)

    def rate(self, round_index: int, inner: int) -> float:
        """Return the learning rate of one inner step."""
        return learning_rate(self.spec.optimizer, self.variant.inner_steps, round_index, inner)

    # --- who is there ---

    def begin_round(self, round_index: int) -> None:
        """Cross a boundary: commits become final, checkpoints are made, newcomers replace those that vanish."""
        for seat in (seat for row in self.seats for seat in row):
            seat.last_tokens = seat.on_its_way
            seat.on_its_way = seat.tokens - seat.tokens_at_boundary
            seat.tokens_at_boundary = seat.tokens
        rng = stream(self.beacon, "bench.boundary", round_index)
        order = rng.shuffled(range(self.count))
        if round_index and round_index % self.spec.checkpoint_rounds == 0:
            chosen = self._settled(order, round_index)[0]
            for s, row in enumerate(self.seats):
                self.anchors[s] = row[chosen].phi_P.clone()
        if round_index:
            gone, left = order[: self.variant.churn], order[self.variant.churn :]
            for i in gone:
                for s, row in enumerate(self.seats):
                    row[i] = self._newcomer(s, round_index)
                    if self.variant.newcomers == "adopt":
                        adopt_state(row[i], row[rng.choice(self._settled(left, round_index))])

    def _settled(self, order: list[int], round_index: int) -> list[int]:
        """Return the replicas that give already; all of them if there are none."""
        return [i for i in order if not self.is_new(i, round_index)] or order

    def _newcomer(self, stage: int, since_round: int | None) -> Seat:
        """Apply the join transform: the newest checkpoint, moments, momentum and residual zero."""
        start_P = self.anchors[stage]
        count = start_P.numel()
        return Seat(
            params_P=start_P.clone(),
            phi_P=start_P.clone(),
            momentum_P=torch.zeros(count),
            residual_P=torch.zeros(count),
            optimizer=OptimizerState.zeros(count, self._matrices[stage]),
            tokens_at_sync=[0] * self.variant.fragments,
            since_round=since_round,
        )

    def is_new(self, index: int, round_index: int, stage: int = 0) -> bool:
        """Return True if a replica takes and does not give yet."""
        since = self.seats[stage][index].since_round
        return since is not None and pulls_only(
            round_index, since, self.spec.outer.pull_only_rounds
        )

    def gives(self, stage: int, index: int, round_index: int) -> bool:
        """Return True if a replica may give: it is not new, and does not trail."""
        row = self.seats[stage]
        trails = is_trailing(row[index].last_tokens, [seat.last_tokens for seat in row])
        return not trails and not self.is_new(index, round_index, stage)

    # --- inner steps ---

    def inner_step(self, step: int, round_index: int, inner: int) -> float:
        """Take the steps of one tick; return the mean training loss."""
        if self.variant.method == "sync":
            return self._sync_step(step, round_index, inner)
        awake = [
            i for i in range(self.count) if i < self.variant.slow_from or inner % SLOW_PERIOD == 0
        ]
        if self.variant.stages == 1:
            return self._stacked_step(awake, step, round_index, inner)
        sums = [[GradientSum(seat.params_P.numel()) for seat in row] for row in self.seats]
        losses = list[float]()
        for i in awake:
            path_ = [i, *self._route(i, step, round_index)]
            losses.append(self._microbatch(self._samples(i, step), path_, sums))
        for s, row_sums in enumerate(sums):
            for i, total in enumerate(row_sums):
                if total.count:
                    self._optimize(s, i, total.mean(), round_index, inner)
        return sum(losses) / len(losses)

    def _stacked_step(self, awake: list[int], step: int, round_index: int, inner: int) -> float:
        """Take one step of the replicas that are awake, all at once: they have one stage."""
        samples = [self._samples(i, step) for i in awake]
        ids_RBT, labels_RBT = (torch.stack(part) for part in zip(*samples, strict=True))
        row, plan = self.seats[0], self.stages[0].plan
        params_RP = torch.stack([row[i].params_P for i in awake])
        losses_R, grad_RP = stacked_gradients(plan, params_RP, ids_RBT, labels_RBT)
        for i, (_, labels_BT), grad_P in zip(awake, samples, grad_RP, strict=True):
            row[i].tokens += labels_BT.numel()
            self._optimize(0, i, grad_P, round_index, inner)
        return float(losses_R.mean())

    def _sync_step(self, step: int, round_index: int, inner: int) -> float:
        """Compute the micro-batches of all replicas with one model, as one of as many sequences."""
        samples = [self._samples(i, step) for i in range(REPLICAS)]
        ids_BT, labels_BT = (torch.cat(part) for part in zip(*samples, strict=True))
        if self.variant.stages == 1:
            row, plan = self.seats[0], self.stages[0].plan
            params_RP = row[0].params_P.unsqueeze(0)
            one = ids_BT.unsqueeze(0), labels_BT.unsqueeze(0)
            losses_R, grad_RP = stacked_gradients(plan, params_RP, *one)
            self._optimize(0, 0, grad_RP[0], round_index, inner)
            return float(losses_R)
        sums = [[GradientSum(row[0].params_P.numel())] for row in self.seats]
        loss = self._microbatch((ids_BT, labels_BT), [0] * self.variant.stages, sums)
        for s, (total,) in enumerate(sums):
            self._optimize(s, 0, total.mean(), round_index, inner)
        return loss

    def _microbatch(
        self,
        samples: tuple[Tensor, Tensor],
        indices: list[int],
        sums: list[list[GradientSum]],
    ) -> float:
        """Send one micro-batch through these seats and back; add the gradients of each stage to ``sums``."""
        ids_BT, labels_BT = samples
        inputs = ids_BT
        seats = [row[i] for row, i in zip(self.seats, indices, strict=True)]
        forwards = list[Forward]()
        for stage, seat in zip(self.stages[:-1], seats[:-1], strict=True):
            forwards.append(run_forward(stage, seat.params_P, inputs))
            inputs = with_ids(self.spec.model, self._sent(forwards[-1].output), ids_BT)
        loss, grad, grad_P = run_loss(self.stages[-1], seats[-1].params_P, inputs, labels_BT)
        sums[-1][indices[-1]].add(grad_P)
        for s in reversed(range(len(forwards))):
            assert grad is not None, "a stage behind another has inputs with a gradient"
            answer = self._answered(s + 1, indices[s + 1], grad)
            grad, grad_P = run_backward(forwards[s], self._sent(answer))
            sums[s][indices[s]].add(grad_P)
        for seat in seats:
            seat.tokens += labels_BT.numel()
        return loss

    def _answered(self, stage: int, index: int, grad: Tensor) -> Tensor:
        """Return the gradient that a replica of a later stage gives for the inputs it was sent."""
        del stage, index
        return grad

    def _sent(self, x: Tensor) -> Tensor:
        """Return what the other side of a cut computes from."""
        form = self.variant.wire
        if not form:
            return x
        payload = to_wire(x, form)
        self.found.cut_bytes += len(payload)
        self.found.cut_tokens += x.shape[0] * x.shape[1]
        return from_wire(payload, x.shape, form)

    def _route(self, origin: int, step: int, round_index: int) -> list[int]:
        """Return the replicas of the later stages: drawn, or always the same."""
        if self.variant.stages == 1 or not self.variant.random_paths:
            return [origin] * (self.variant.stages - 1)
        where = (self.beacon, self.beacon, RoundIndex(round_index), step, 0)
        routes = path(*where, self.rosters, origin, 1)
        return [route[0] for route in routes]

    def _samples(self, origin: int, step: int) -> tuple[Tensor, Tensor]:
        """Return samples, the same for all variants: the round is left out, as its length is a setting."""
        num_starts = len(self.train) - self.spec.model.seq_len
        ids = sample_ids(
            self.beacon, self.beacon, origin, RoundIndex(0), step, 0, BATCH, num_starts
        )
        inputs_BT, labels_BT = windows(self.train, ids, self.spec.model.seq_len)
        self.found.tokens += labels_BT.numel()
        return inputs_BT, labels_BT

    def _optimize(
        self, stage: int, index: int, grad_P: Tensor, round_index: int, inner: int
    ) -> None:
        """Step one replica of a stage; a slow one has taken fewer steps of its round."""
        seat, plan = self.seats[stage][index], self.stages[stage].plan
        taken = inner // SLOW_PERIOD if index >= self.variant.slow_from else inner
        rate, spec = self.rate(round_index, taken), self.spec.optimizer
        matrices = self._matrices[stage]
        optimizer_step(
            self._ops, seat.params_P, grad_P, seat.optimizer, rate, spec, plan.decayed, matrices
        )


def adopt_state(seat: Seat, source: Seat) -> None:
    """Let a newcomer go on with the state that another replica committed at this boundary."""
    offered = OfferedState(source.phi_P, source.optimizer.v_A, source.optimizer.step, ())
    adopted = adopt(offered, seat.params_P.numel(), offered.v_A.numel())
    seat.params_P, seat.phi_P = adopted.phi_P.clone(), adopted.phi_P
    seat.momentum_P, seat.optimizer = adopted.momentum_P, adopted.optimizer


def _peer(index: int) -> PeerId:
    return PeerId(fast_digest("bench-peer", index.to_bytes(4, "big")))
