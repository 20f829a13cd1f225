"""A swarm in one process: replicas of a small model that train, trade, get lost and end as one.

The arithmetic is that of the cores (outer, quantize, int4, pairing, consensus); what is simulated is only which
trade arrives. Run as a program it is a worker of ``benchmarks/train.py``.

Legend: P parameters of a shard, F values of a fragment.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.replicas import Found, Replicas
from benchmarks.variants import VARIANTS, Variant
from swarm.config.spec import NANO
from swarm.gossip.codecs.int4 import decode_int4, encode_int4, is_coarse
from swarm.gossip.codecs.int8 import decode_int8, encode_int8
from swarm.gossip.pairing import SeatKey, final_rounds, final_trades, heaviest_edges, pair_up
from swarm.primitives.randomness import stream
from swarm.testing.baselines import diloco_step
from swarm.training.averaging.outer_step import (
    OuterScalars,
    OuterState,
    Partner,
    advanced,
    final_averaging_step,
    outer_scalars,
    outer_step,
    weight_nano,
)
from swarm.training.data.dataset import TokenSource
from swarm.training.data.disk import open_tokens
from swarm.types import RoundIndex, StageIndex

CURVE_POINTS = 10
CURVE_WINDOWS = 64
"""Held-out windows at each point of a curve: enough to draw it."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One fragment of all replicas, as it stood when it was due."""

    merge_at: int
    round_index: int
    stage: int
    fragment: int
    thetas: tuple[Tensor, ...]


class Swarm(Replicas):
    """Replicas that also trade."""

    def __init__(
        self, variant: Variant, seed: int, steps: int, train: TokenSource, heldout: TokenSource
    ) -> None:
        super().__init__(variant, seed, steps, train, heldout)
        self._offered = list[Offered]()

    def run(self, heldout_windows: int) -> Found:
        """Train for all steps, measure, and agree."""
        began, found = time.process_time(), self.found
        losses = list[float]()
        for step in range(self.steps):
            round_index, inner = divmod(step, self.variant.inner_steps)
            if inner == 0:
                self.begin_round(round_index)
            losses.append(self.inner_step(step, round_index, inner))
            self._outer_steps(step, round_index, inner)
            if inner == self.variant.inner_steps - 1:
                found.losses.append(sum(losses) / len(losses))
                found.stds.append(self.std())
                found.rates.append(self.rate(round_index, inner))
                losses.clear()
            if (step + 1) % max(self.steps // CURVE_POINTS, 1) == 0:
                found.curve.append((step + 1, self.nats(self.mean(), CURVE_WINDOWS)))
        found.nats = self.nats(self.mean(), heldout_windows)
        for i in range(self.count):
            solo_P = torch.cat([row[i].params_P for row in self.seats])
            found.replica_nats.append(self.nats(solo_P, heldout_windows))
        self._agree()
        found.butterfly_std = self.std()
        found.cpu_seconds = time.process_time() - began
        return found

    # --- outer steps ---

    def _outer_steps(self, step: int, round_index: int, inner: int) -> None:
        """Offer the fragments that are due, merge those whose time has come."""
        method, H = self.variant.method, self.variant.inner_steps
        if method == "diloco" and inner == H - 1:
            self._all_reduce(round_index)
        if method != "pairs":
            return
        for s, row in enumerate(self.seats):
            for f, span in enumerate(self.spans[s]):
                if (f + 1) * H // self.variant.fragments == inner + 1:
                    thetas = tuple(seat.params_P[span.slice].clone() for seat in row)
                    merge_at = min(step + self.variant.late_steps, self.steps - 1)
                    self._offered.append(Offered(merge_at, round_index, s, f, thetas))
        waiting, self._offered = self._offered, []
        for offered in waiting:
            if offered.merge_at <= step:
                self._trade(offered)
            else:
                self._offered.append(offered)

    def _all_reduce(self, round_index: int) -> None:
        scalars = self._scalars(round_index)
        for row in self.seats:
            shared = OuterState(row[0].phi_P, row[0].momentum_P)
            after = diloco_step(shared, [seat.params_P for seat in row], scalars)
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
            fragment,
            RoundIndex(round_index),
        )
        heard = self._heard(pairs, stage, fragment, round_index)
        senders = set(heard.values())
        if self.variant.codec == "int4-mean":
            senders |= set(heard)  # who keeps the mean of a pair needs its own payload too
        hats = self._received(offered, sorted(senders))
        slow = [OuterState(seat.phi_P[span].clone(), seat.momentum_P[span]) for seat in row]
        for i, seat in enumerate(row):
            partner = None
            if i in heard:
                j = heard[i]
                phi_F = slow[j].phi_F if self.variant.tensors == 2 else None
                hat_F = hats[j]
                if self.variant.codec == "int4-mean":
                    hat_F = offered.thetas[i] + (hat_F - hats[i])
                partner = Partner(hat_F, self._share(offered, i, j), phi_F)
            after = outer_step(slow[i], offered.thetas[i], partner, self._scalars(round_index))
            seat.phi_P[span], seat.momentum_P[span] = after.phi_F, after.momentum_F
            seat.params_P[span] = advanced(after.phi_F, seat.params_P[span], offered.thetas[i])
        for seat in row:
            seat.tokens_at_sync[fragment] = seat.tokens
        self.found.trades += len(heard)
        self.found.lost += len(pairs) - len(heard)

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
        row, f = self.seats[offered.stage], offered.fragment
        mine, theirs = (row[i].tokens - row[i].tokens_at_sync[f] for i in (receiver, sender))
        return weight_nano(mine, theirs, 0, self.spec.outer.age_weights_nano) / NANO

    def _received(self, offered: Offered, senders: list[int]) -> dict[int, Tensor]:
        """theta_hat of every replica whose payload arrived; a residual moves with its payload only."""
        stage, span = offered.stage, self.spans[offered.stage][offered.fragment].slice
        anchor_F = self.anchors[stage][span]
        hats = dict[int, Tensor]()
        for i in senders:
            theta_F = offered.thetas[i]
            codec = self.variant.codec
            if codec in {"int4", "int4-mean"} and not is_coarse(
                offered.round_index, self.spec.rounds
            ):
                codec = "int8"
            match codec:
                case "float32":
                    hats[i], size = theta_F, 4 * theta_F.numel() * self.variant.tensors
                case "int8":
                    payload = encode_int8(theta_F, anchor_F)
                    hats[i], size = decode_int8(payload, anchor_F, theta_F.numel()), len(payload)
                case "int4" | "int4-mean":
                    seat = self.seats[stage][i]
                    coded = encode_int4(theta_F, anchor_F, seat.residual_P[span])
                    if self.variant.error_feedback:
                        seat.residual_P[span] = coded.residual_N
                    size = len(coded.payload)
                    hats[i] = decode_int4(coded.payload, anchor_F, theta_F.numel())
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
                        weight = trade.weight_nano / NANO
                        partner = Partner(before[trade.partner.index], weight)
                    after = final_averaging_step(before[i], partner)
                    seat.params_P = after.phi_F


def main() -> int:
    """Work: one JSON object per line on stdin names a run, one per line on stdout is its result."""
    torch.set_num_threads(1)
    train, heldout = (open_tokens(Path(name)) for name in sys.argv[1:3])
    for line in sys.stdin:
        job = json.loads(line)
        swarm = Swarm(VARIANTS[job["variant"]], job["seed"], job["steps"], train, heldout)
        print(json.dumps(asdict(swarm.run(job["heldout_windows"]))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
