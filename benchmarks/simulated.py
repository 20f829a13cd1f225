"""A swarm in one process: replicas of a small model that train, trade, get lost and end as one.

The arithmetic is that of the cores (outer, quantize, int4, pairing, consensus); what is simulated is only which
trade arrives. Run as a program it is a worker of ``benchmarks/train.py``.

Legend: P parameters of a shard, F values of a fragment.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.recipes import VARIANTS
from benchmarks.replicas import Found, Replicas
from benchmarks.variants import REPLICAS, Variant
from swarm.config.spec import NANO
from swarm.gossip.codecs.int4 import is_coarse
from swarm.gossip.codecs.int8 import compress
from swarm.gossip.pairing import (
    FinalTrade,
    SeatKey,
    final_rounds,
    final_trades,
    heaviest_edges,
    pair_up,
)
from swarm.gossip.trade.messages import Codec
from swarm.gossip.trade.payload import FragmentPayload, encode_payload, read_payload
from swarm.primitives.randomness import stream
from swarm.testing.baselines import diloco_step
from swarm.training.averaging.outer_step import (
    PRESETS,
    OuterScalars,
    OuterState,
    Partner,
    advanced,
    final_averaging_step,
    outer_scalars,
    outer_step,
    weight_nano,
)
from swarm.training.averaging.payload import MEAN_CODECS
from swarm.training.data.dataset import TokenSource
from swarm.training.data.disk import open_tokens
from swarm.types import NO_DIGEST, RoundIndex, StageIndex

CODECS = {**MEAN_CODECS, "int4": Codec.INT4, "int8": Codec.INT8}
"""Codec of the payloads under each encoding that nodes have too."""
EXCHANGES_MAX = 1000
"""Above the exchanges of any round here: the pairs of a second partner are drawn from its number on."""
TOP_PART = 4
"""One value in so many is sent by top2."""
CURVE_POINTS = 10
CURVE_WINDOWS = 64
"""Held-out windows at each point of a curve: enough to draw it."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One fragment of all replicas, as it stood when it was due."""

    merge_at: int
    round_index: int
    stage: int
    exchange: int
    """Number of the exchange in its round: it draws the pairs."""
    fragment: int
    thetas: tuple[Tensor, ...]


class Swarm(Replicas):
    """Replicas that also trade."""

    def __init__(
        self,
        variant: Variant,
        seed: int,
        steps: int,
        train: TokenSource,
        heldout: TokenSource,
        replicas: int = REPLICAS,
    ) -> None:
        super().__init__(variant, seed, steps, train, heldout, replicas)
        self._offered = list[Offered]()
        self.keeps_mean = variant.codec in MEAN_CODECS

    def run(self, heldout_windows: int, *, is_tuning: bool = False) -> Found:
        """Train for all steps, measure, and agree; a run that tunes measures the mean at the end alone."""
        began, found = time.process_time(), self.found
        losses = list[float]()
        for step in range(self.steps):
            round_index, inner = divmod(step, self.variant.inner_steps)
            losses.append(self.take(step))
            if inner == self.variant.inner_steps - 1:
                found.losses.append(sum(losses) / len(losses))
                found.stds.append(self.std())
                found.rates.append(self.rate(round_index, inner))
                losses.clear()
            if not is_tuning and (step + 1) % max(self.steps // CURVE_POINTS, 1) == 0:
                found.curve.append((step + 1, self.nats(self.mean(), CURVE_WINDOWS)))
        found.nats = self.nats(self.mean(), heldout_windows)
        for i in () if is_tuning else range(self.count):
            solo_P = torch.cat([row[i].params_P for row in self.seats])
            found.replica_nats.append(self.nats(solo_P, heldout_windows))
        self._agree()
        found.butterfly_std = self.std()
        found.cpu_seconds = time.process_time() - began
        return found

    def take(self, step: int) -> float:
        """Take one step of the run, with the boundary before it and the trades behind; return the mean loss."""
        round_index, inner = divmod(step, self.variant.inner_steps)
        if inner == 0:
            self.begin_round(round_index)
        loss = self.inner_step(step, round_index, inner)
        self._outer_steps(step, round_index, inner)
        return loss

    # --- outer steps ---

    def _outer_steps(self, step: int, round_index: int, inner: int) -> None:
        """Offer the fragments that are due, merge those whose time has come."""
        method, H = self.variant.method, self.variant.inner_steps
        if method == "diloco" and inner == H - 1:
            self._all_reduce(round_index)
        if method not in {"pairs", "gasloc"}:
            return
        is_late = 2 * step >= self.steps and self.variant.trades_late > 0
        trades = self.variant.trades_late if is_late else self.variant.trades
        exchanges = trades * self.variant.fragments
        for exchange in range(exchanges):
            if (exchange + 1) * H // exchanges == inner + 1:
                for s in range(len(self.seats)):
                    self._offer(step, round_index, s, exchange)
        waiting, self._offered = self._offered, list[Offered]()
        for offered in waiting:
            if offered.merge_at <= step:
                self._trade(offered)
            else:
                self._offered.append(offered)

    def _offer(self, step: int, round_index: int, stage: int, exchange: int) -> None:
        span = self.spans[stage][exchange % self.variant.fragments]
        for partner in range(self.variant.partners):
            number = exchange + partner * EXCHANGES_MAX
            thetas = tuple(seat.params_P[span.slice].clone() for seat in self.seats[stage])
            merge_at = min(step + self.variant.late_steps, self.steps - 1)
            offered = Offered(
                merge_at=merge_at,
                round_index=round_index,
                stage=stage,
                exchange=number,
                fragment=exchange % self.variant.fragments,
                thetas=thetas,
            )
            if self.variant.partners > 1:
                self._trade(offered)
            else:
                self._offered.append(offered)

    def _all_reduce(self, round_index: int) -> None:
        scalars = self._scalars(round_index)
        for row in self.seats:
            shared = OuterState(row[0].phi_P, row[0].momentum_P)
            before = shared.momentum_F
            after = diloco_step(shared, [seat.params_P for seat in row], scalars)
            if self.variant.nesterov:
                after = _nesterov(after, before, scalars.alpha)
            for seat in row:
                seat.phi_P, seat.momentum_P = after.phi_F, after.momentum_F
                seat.params_P = after.phi_F.clone()

    def _trade(self, offered: Offered) -> None:
        """Trade one fragment of every replica: pull from the partner, or take a solo step."""
        stage, fragment, round_index = offered.stage, offered.fragment, offered.round_index
        row, span = self.seats[stage], self.spans[stage][fragment].slice
        pairs = pair_up(
            self.keys,
            self.beacon,
            self.beacon,
            StageIndex(stage),
            offered.exchange,
            RoundIndex(round_index),
        )
        heard = self._heard(pairs, stage, offered.exchange, round_index)
        senders = set(heard.values())
        if self.keeps_mean:
            senders |= set(heard)  # who keeps the mean of a pair needs its own payload too
        hats = self._received(offered, sorted(senders))
        self._average_moments(heard, stage, round_index)
        slow = [OuterState(seat.phi_P[span].clone(), seat.momentum_P[span]) for seat in row]
        for i, seat in enumerate(row):
            partner = None
            if i in heard:
                partner = self._partner(offered, i, heard[i], hats, slow)
            else:
                self._alone(offered, i, slow[i])
            after = self._stepped(slow[i], offered.thetas[i], partner, round_index)
            seat.phi_P[span], seat.momentum_P[span] = after.phi_F, after.momentum_F
            seat.params_P[span] = advanced(after.phi_F, seat.params_P[span], offered.thetas[i])
        for seat in row:
            seat.tokens_at_sync[fragment] = seat.tokens
        self.found.trades += len(heard)
        self.found.lost += len(pairs) - len(heard)

    def _partner(
        self,
        offered: Offered,
        receiver: int,
        sender: int,
        hats: Mapping[int, Tensor],
        slow: Sequence[OuterState],
    ) -> Partner | None:
        """Return what a replica takes of a payload that reached it; None: nothing, it steps alone."""
        phi_F = slow[sender].phi_F if self.variant.tensors == 2 else None
        hat_F = hats[sender]
        if self.keeps_mean:
            hat_F = offered.thetas[receiver] + (hat_F - hats[receiver])
        return Partner(hat_F, self._share(offered, receiver, sender), phi_F)

    def _alone(self, offered: Offered, receiver: int, slow: OuterState) -> None:
        """Note that a replica hears of nobody, and steps alone."""

    def _stepped(
        self, slow: OuterState, theta_F: Tensor, partner: Partner | None, round_index: int
    ) -> OuterState:
        """Take the outer step of the variant's method."""
        scalars = self._scalars(round_index)
        if self.variant.method == "gasloc":
            # The momentum slot holds the iterate before the exchange of one exchange ago (arXiv 2606.11081).
            mixed = outer_step(
                OuterState(theta_F, theta_F * 0), theta_F, partner, PRESETS["gossip"]
            ).phi_F
            drift_F = theta_F - slow.momentum_F if slow.momentum_F.any() else theta_F * 0
            return OuterState(mixed + (self.variant.gamma or 0.0) * drift_F, theta_F.clone())
        after = outer_step(slow, theta_F, partner, scalars)
        return _nesterov(after, slow.momentum_F, scalars.alpha) if self.variant.nesterov else after

    def _average_moments(self, heard: dict[int, int], stage: int, round_index: int) -> None:
        """Average the first moments of pairs in the rounds in which the variant does."""
        every = self.variant.moments_every
        if not every or round_index % every:
            return
        row = self.seats[stage]
        before = [seat.optimizer.m_P.clone() for seat in row]
        for i, j in heard.items():
            row[i].optimizer.m_P.copy_((before[i] + before[j]) / 2)
            self.found.wire_bytes += 4 * before[j].numel()

    def _heard(
        self, pairs: Mapping[SeatKey, SeatKey], stage: int, fragment: int, round_index: int
    ) -> dict[int, int]:
        """Return the sender of each replica that receives: the drawn partner, or a standby partner."""
        heard, taken = dict[int, int](), Counter[int]()
        where = (self.beacon, self.beacon, StageIndex(stage), fragment, RoundIndex(round_index))
        senders = {key for key in self.keys if self.gives(stage, key.index, round_index)}
        for i, key in enumerate(self.keys):
            partner = pairs.get(key)
            if partner in senders and not self._is_lost(i, round_index, fragment):
                heard[i] = partner.index
                continue
            edges = heaviest_edges(key, self.keys, *where)
            others = (other for other in edges if other != partner and other in senders)
            for attempt, other in enumerate(islice(others, self.variant.num_retries), start=1):
                is_free = taken[other.index] < self.variant.num_retries
                if is_free and not self._is_lost(i, round_index, fragment, attempt):
                    heard[i] = other.index
                    taken[other.index] += 1
                    break
        return heard

    def _share(self, offered: Offered, receiver: int, sender: int) -> float:
        """Return the weight at which the receiver takes the sender's values."""
        mine, theirs = (self._tokens_since(offered, i) for i in (receiver, sender))
        return weight_nano(mine, theirs, 0, self.spec.outer.age_weights_nano) / NANO

    def _tokens_since(self, offered: Offered, index: int) -> int:
        """Return the tokens that a replica offers its fragment with: since the last trade of it."""
        seat = self.seats[offered.stage][index]
        return seat.tokens - seat.tokens_at_sync[offered.fragment]

    def _received(self, offered: Offered, senders: list[int]) -> dict[int, Tensor]:
        """theta_hat of every replica whose payload arrived; a residual moves with its payload only."""
        stage, span = offered.stage, self.spans[offered.stage][offered.fragment].slice
        anchor_F = self.anchors[stage][span]
        hats = dict[int, Tensor]()
        for i in senders:
            theta_F, seat = offered.thetas[i], self.seats[stage][i]
            codec = self.variant.codec
            if codec == "int4" and not is_coarse(offered.round_index, self.spec.rounds):
                codec = "int8"
            match codec:
                case "float32":
                    hats[i], size = theta_F, 4 * theta_F.numel() * self.variant.tensors
                case "top2":
                    moved_F = theta_F - anchor_F + seat.residual_P[span]
                    kept_F = top_two_bits(moved_F)
                    seat.residual_P[span] = moved_F - kept_F
                    hats[i], size = anchor_F + kept_F, top_two_bits_bytes(moved_F.numel())
                case _:
                    residual_F = seat.residual_P[span] if codec == "int4" else None
                    mine = FragmentPayload(theta_F, anchor_F, NO_DIGEST, 0, 0, residual=residual_F)
                    payload, left_F = encode_payload(mine, CODECS[codec])
                    if left_F is not None:
                        seat.residual_P[span] = left_F
                    hats[i] = read_payload(CODECS[codec], payload, anchor_F)
                    size = len(compress(payload))
            self.found.wire_bytes += size
            self.found.wire_values += theta_F.numel()
        return hats

    def _is_lost(self, receiver: int, round_index: int, fragment: int, attempt: int = 0) -> bool:
        again = (attempt,) if attempt else ()
        rng = stream(self.beacon, "bench.lost", round_index, fragment, receiver, *again)
        return rng.below(100) < self.variant.lost_percent

    def _scalars(self, round_index: int) -> OuterScalars:
        scalars = outer_scalars(self.spec.outer, round_index)
        gamma = self.variant.gamma
        return scalars if gamma is None else replace(scalars, gamma=gamma)

    # --- the end ---

    def _agree(self) -> None:
        """Play the rounds of final averaging: whole shards, float32, until all replicas are one."""
        for r in range(final_rounds(self.count)):
            for s, row in enumerate(self.seats):
                trades = final_trades(self.keys, self.beacon, self.beacon, StageIndex(s), r)
                before = [seat.params_P for seat in row]
                for i, seat in enumerate(row):
                    trade = trades.get(self.keys[i])
                    partner = None
                    if trade is not None:
                        partner = self._final_partner(s, before, i, trade)
                    after = final_averaging_step(before[i], partner)
                    seat.params_P = after.phi_F

    def _final_partner(
        self, stage: int, before: Sequence[Tensor], receiver: int, trade: FinalTrade
    ) -> Partner | None:
        """Return what a replica takes in a round of final averaging; None: nothing, it stays as it is."""
        del stage, receiver
        return Partner(before[trade.partner.index], trade.weight_nano / NANO)


def _nesterov(after: OuterState, momentum_F: Tensor, alpha: float) -> OuterState:
    """Let an outer step that was taken with momentum look ahead (Nesterov), as DiLoCo's does."""
    return OuterState(after.phi_F + alpha * (after.momentum_F - momentum_F), after.momentum_F)


def top_two_bits(moved_F: Tensor) -> Tensor:
    """Return what is left of values of which a quarter is kept, with a sign and one of two magnitudes.

    SparseLoCo (arXiv 2508.15706) sends pseudo-gradients in this way.
    """
    count = -(-moved_F.numel() // TOP_PART)
    sizes_F = moved_F.abs()
    kept = torch.topk(sizes_F, count).indices
    sizes_K = sizes_F[kept]
    middle = sizes_K.median()
    low, high = sizes_K[sizes_K <= middle].mean(), sizes_K[sizes_K >= middle].mean()
    sent_F = torch.zeros_like(moved_F)
    sent_F[kept] = moved_F[kept].sign() * torch.where(sizes_K > middle, high, low)
    return sent_F


def top_two_bits_bytes(numel: int) -> int:
    """Return the bytes of a payload: two bits and an index of 12 bits (blocks of 4,096) for each value sent."""
    return -(-numel // TOP_PART) * 14 // 8 + 8


def main() -> int:
    """Work: one JSON object per line on stdin names a run, one per line on stdout is its result."""
    torch.set_num_threads(1)
    train, heldout, validation = (open_tokens(Path(name)) for name in sys.argv[1:4])
    for line in sys.stdin:
        job = json.loads(line)
        variant = replace(VARIANTS[job["variant"]], **job.get("changes", {}))
        is_tuning = job["is_tuning"]
        text = validation if is_tuning else heldout
        swarm = Swarm(variant, job["seed"], job["steps"], train, text)
        found = swarm.run(job["heldout_windows"], is_tuning=is_tuning)
        print(json.dumps(asdict(found)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
