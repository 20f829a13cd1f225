"""Each simulated cheat does what it says and no more; what a node declines counts as a step alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.adversaries import FEW, HONEST, LATE, MIDDLE, SWARMS, Run, read
from benchmarks.adversary_swarm import (
    ADVERSARIES,
    FINAL_ROUNDS,
    LEAVES,
    NOISE,
    Adversary,
    CheatedSwarm,
    Ended,
    Exposure,
    draw_normal,
    one_wrong_label,
    random_text,
    variant_of,
)
from benchmarks.common import Outcome
from benchmarks.simulated import Offered, Swarm
from benchmarks.variants import BATCH, INNER_STEPS, REPLICAS, SEQ_LEN
from swarm.gossip.pairing import final_rounds, final_trades, pair_up
from swarm.primitives.codec import replace as changed
from swarm.primitives.randomness import stream
from swarm.training.averaging.outer_step import OuterState
from swarm.types import RoundIndex, StageIndex

SEED, ROUNDS, WINDOWS = 1, 2, 1
STEPS_OF_RECIPE = 2
"""Steps from one trade to the next by the recipe; in most of these tests every step has one."""
TEXT = np.frombuffer(stream(bytes(32), "test.text").bytes_(20_000), dtype=np.uint8)
NAMED = {adversary.name: adversary for adversary in ADVERSARIES}
NEAR = 0.01
"""Distance that partners are expected at in these tests."""
CHEAT = REPLICAS - 1


class Watched(CheatedSwarm):
    """Swarm of these tests: it trades after every step, in int8, so that payloads are nearly exact."""

    def __init__(
        self, adversary: Adversary | None = None, stages: int = 1, trades: int = INNER_STEPS
    ) -> None:
        super().__init__(stages, SEED, ROUNDS * INNER_STEPS, TEXT, TEXT)
        self.exposure = None if adversary is None else Exposure(adversary, 0, None)
        self.variant = replace(self.variant, codec="int8", trades=trades)

    def params(self, index: int = CHEAT, stage: int = 0) -> Tensor:
        return self.seats[stage][index].params_P.clone()

    def samples(self, index: int) -> tuple[Tensor, Tensor]:
        return self._samples(index, 0)

    def partner(self, exchange: int) -> int:
        """Return the replica with which the cheat trades."""
        where = (self.beacon, self.beacon, StageIndex(self.stage), exchange, RoundIndex(0))
        return pair_up(self.keys, *where)[self.keys[CHEAT]].index

    def have_moved(self) -> None:
        """Let every replica have moved so far that a partner is expected at a distance of ``NEAR``."""
        for index, movements in enumerate(self.movements[0]):
            theta = self.params(index)
            offered = Offered(0, 0, 0, 0, 0, (theta,) * REPLICAS)
            self.seats[0][index].tokens += BATCH * SEQ_LEN
            self._alone(offered, index, OuterState(theta + NEAR / 2, theta))
            self.seats[0][index].tokens -= BATCH * SEQ_LEN
            movements.stepped(replace(self._merge(offered, index, theta), weight_nano=1), 1)

    def meet(self) -> None:
        """Let every replica have taken something of a partner."""
        offered = Offered(0, 0, 0, 0, 0, (self.params(0),) * REPLICAS)
        taken = replace(self._merge(offered, 0, self.params(0)), weight_nano=1)
        for movements in self.movements[0]:
            movements.stepped(taken, 1)

    def scatter(self) -> None:
        """Move every replica away from the others, as far as usual."""
        for index, seat in enumerate(self.seats[0]):
            moved_P = draw_normal(seat.params_P, stream(self.beacon, "test.scatter", index))
            seat.params_P += NEAR / 2 * moved_P


def cosine(x: Tensor, y: Tensor) -> float:
    return float(torch.cosine_similarity(x, y, dim=0))


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("stages", [1, 2])
def test_an_honest_swarm_that_clips_nobody_has_the_bits_of_the_simulated_one(stages: int) -> None:
    ours = CheatedSwarm(stages, SEED, INNER_STEPS, TEXT, TEXT)
    theirs = Swarm(variant_of(stages), SEED, INNER_STEPS, TEXT, TEXT)
    ours.spec = changed(ours.spec, outer=changed(ours.spec.outer, distance_max_nano=0))
    ours.advance(0, STEPS_OF_RECIPE)
    for step in range(STEPS_OF_RECIPE):
        theirs.take(step)
    for ours_row, theirs_row in zip(ours.seats, theirs.seats, strict=True):
        for mine, other in zip(ours_row, theirs_row, strict=True):
            assert torch.equal(mine.params_P, other.params_P)
            assert torch.equal(mine.phi_P, other.phi_P)
            assert mine.tokens == other.tokens
    assert ours.others.payloads == theirs.found.trades == stages * REPLICAS
    mean_P = theirs.mean()
    ended = ours.end(WINDOWS)
    assert ended.nats == pytest.approx(theirs.nats(mean_P, WINDOWS), abs=1e-4)
    assert ended.worst_replica_nats == ended.nats, "all are one"


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=lambda adversary: adversary.name)
def test_every_cheat_claims_the_tokens_of_an_honest_replica(adversary: Adversary) -> None:
    swarm = Watched(adversary, adversary.stages)
    swarm.advance(0, 1)
    assert swarm.found.tokens == REPLICAS * BATCH * SEQ_LEN
    for row in swarm.seats:
        assert {seat.tokens for seat in row} == {BATCH * SEQ_LEN}


def test_a_run_from_a_trunk_forgets_the_one_before() -> None:
    swarm = Watched()
    trunk = swarm.trunk()
    swarm.advance(0, 1)
    honest_P = swarm.params(0)
    swarm.branch(trunk, Exposure(NAMED["other_data"], 0, None))
    swarm.advance(0, 1)
    assert swarm.from_cheat.payloads == 1
    swarm.branch(trunk, None)
    swarm.advance(0, 1)
    assert torch.equal(swarm.params(0), honest_P)
    assert swarm.from_cheat.payloads == 0


def test_who_skips_steps_stays_where_it_is() -> None:
    swarm = Watched(NAMED["skips_steps"], trades=1)
    before_P = swarm.params()
    swarm.advance(0, 1)
    assert torch.equal(swarm.params(), before_P)
    assert all(not torch.equal(swarm.params(i), before_P) for i in range(CHEAT))


def test_one_label_of_a_micro_batch_is_wrong_and_only_the_cheats() -> None:
    honest, cheated = Watched(), Watched(NAMED["poisons_label"])
    cheated.begin_round(0)
    for index in range(REPLICAS):
        (inputs_BT, labels_BT), (others_BT, wrong_BT) = (
            honest.samples(index),
            cheated.samples(index),
        )
        assert torch.equal(inputs_BT, others_BT)
        assert int((labels_BT != wrong_BT).sum()) == (index == CHEAT)
    labels_BT = torch.full((BATCH, SEQ_LEN), 255)
    dice = stream(bytes(32), "test.labels")
    for _ in range(100):
        wrong_BT = one_wrong_label((labels_BT, labels_BT), dice)[1]
        assert int((wrong_BT != labels_BT).sum()) == 1
        assert 0 <= int(wrong_BT.min()) <= int(wrong_BT.max()) <= 255


def test_other_data_are_bytes_that_mean_nothing() -> None:
    honest, cheated = Watched(), Watched(NAMED["other_data"])
    cheated.begin_round(0)
    assert torch.equal(cheated.samples(0)[0], honest.samples(0)[0])
    inputs_BT, labels_BT = cheated.samples(CHEAT)
    due_BT, _ = honest.samples(CHEAT)
    assert inputs_BT.shape == labels_BT.shape == due_BT.shape
    assert torch.equal(inputs_BT[:, 1:], labels_BT[:, :-1])
    assert float((inputs_BT == due_BT).float().mean()) < 0.05
    drawn = random_text((due_BT, due_BT), stream(bytes(32), "test.bytes"))[0]
    assert len(set(drawn.flatten().tolist())) > 128


@pytest.mark.parametrize(
    ("name", "low", "high"), [("other_bytes", -1, -0.9), ("garbage", -0.1, 0.1)]
)
def test_what_a_partner_is_given_is_not_what_the_cheat_has(
    name: str, low: float, high: float
) -> None:
    honest, cheated = Watched(), Watched(NAMED[name])
    partner = honest.partner(0)
    for swarm in (honest, cheated):
        swarm.advance(0, 1)
    true, false = honest.given[partner], cheated.given[partner]
    assert low <= cosine(true, false) <= high
    for index in set(range(REPLICAS)) - {partner}:
        assert torch.equal(honest.given[index], cheated.given[index])
    assert torch.equal(honest.params(), cheated.params()), "what it computes for itself is right"
    assert not torch.equal(honest.params(partner), cheated.params(partner))


def test_who_copies_gives_what_its_last_partner_gave() -> None:
    swarm = Watched(NAMED["copies_partner"])
    swarm.advance(0, 1)
    copied = swarm.given[CHEAT].clone()
    swarm.advance(1, 2)
    given = swarm.given[swarm.partner(1)]
    assert torch.allclose(given, copied, atol=2e-3)
    assert float((swarm.given[CHEAT] - copied).abs().max()) > 2e-2, "others train"


def test_a_false_start_is_noise_at_the_boundary() -> None:
    swarm = Watched(NAMED["false_start"])
    before_P = swarm.params()
    swarm.begin_round(0)
    assert float((swarm.params() - before_P).std()) == pytest.approx(NOISE, rel=0.05)
    assert torch.equal(swarm.seats[0][CHEAT].phi_P, swarm.params())
    assert torch.equal(swarm.params(0), before_P)


def test_a_false_newcomer_has_other_initial_weights_and_only_pulls_at_first() -> None:
    swarm = Watched(NAMED["false_adoption"])
    swarm.begin_round(0)
    assert abs(cosine(swarm.params(), swarm.params(0))) < 0.5
    assert not swarm.gives(0, CHEAT, 0)
    swarm.begin_round(1)
    assert swarm.gives(0, CHEAT, 1)


def test_flipped_gradients_turn_the_step_of_one_replica_below() -> None:
    honest, cheated = (Watched(one, 2, 1) for one in (None, NAMED["flipped_gradients"]))
    start_P = honest.params()
    for swarm in (honest, cheated):
        swarm.advance(0, 1)
    assert all(torch.equal(honest.params(i, 1), cheated.params(i, 1)) for i in range(REPLICAS))
    turned = [i for i in range(REPLICAS) if not torch.equal(honest.params(i), cheated.params(i))]
    assert len(turned) == 1
    (index,) = turned
    moved, back = (swarm.params(index) - start_P for swarm in (honest, cheated))
    assert torch.allclose(moved, -back, atol=1e-5)


@pytest.mark.parametrize(("adversary", "weight"), [(NAMED["inflated_tokens"], 0.5), (LEAVES, 0.25)])
def test_inflated_tokens_weigh_more_and_bring_more_work(
    adversary: Adversary, weight: float
) -> None:
    swarm = Watched(adversary, 2)
    swarm.begin_round(0)
    for seat in swarm.seats[1][:CHEAT]:
        seat.tokens = 5 * BATCH * SEQ_LEN
    swarm.advance(0, 1)
    assert swarm.from_cheat.weight == pytest.approx(weight)
    swarm.begin_round(FINAL_ROUNDS)
    assert swarm.rosters[1][CHEAT] == (CHEAT, adversary.claims)
    assert {tokens for _, tokens in swarm.rosters[1][:CHEAT]} == {1}


def test_a_payload_that_is_too_far_moves_its_partner_no_further_than_the_limit() -> None:
    swarm, twin = Watched(NAMED["garbage"]), Watched(trades=1)
    start_P = swarm.params()
    for one in (swarm, twin):
        one.begin_round(0)
        one.meet()
        one.advance(0, 1)
    taken, partner = swarm.from_cheat, swarm.partner(0)
    assert (taken.payloads, taken.clipped, taken.declined) == (1, 1, 0)
    moved = rms(twin.params(partner) - start_P)
    limit = swarm.spec.outer.distance_max_nano / 1e9 * 2 * moved
    distance = rms(swarm.given[partner] - twin.params(partner))
    assert taken.weight == pytest.approx(0.5 * limit / distance, rel=0.01)
    assert rms(swarm.params(partner) - twin.params(partner)) == pytest.approx(limit / 2, rel=0.01)


def test_what_is_declined_in_the_final_averaging_counts_as_a_step_alone() -> None:
    swarm = Watched(NAMED["other_bytes"])
    swarm.begin_round(0)
    swarm.scatter()
    swarm.have_moved()
    models = [swarm.params(i) for i in range(REPLICAS)]
    for number in range(final_rounds(REPLICAS)):
        trades = final_trades(swarm.keys, swarm.beacon, swarm.beacon, StageIndex(0), number)
        partners = [trades[key].partner.index for key in swarm.keys]
        models = [
            mine if j == CHEAT else (mine + models[j]) / 2
            for mine, j in zip(models, partners, strict=True)
        ]
    ended = swarm.end(WINDOWS)
    assert ended.final.declined == ended.final.payloads == final_rounds(REPLICAS)
    assert ended.others.declined == ended.others.clipped == 0
    for index in range(REPLICAS):
        assert torch.allclose(swarm.params(index), models[index], atol=1e-6)
    assert ended.worst_replica_nats > ended.nats, "they are not one"


def test_who_is_gone_is_followed_by_a_newcomer_with_an_honest_state() -> None:
    sources = list[int]()
    for adversary in (LEAVES, NAMED["false_start"]):
        swarm = Watched()
        swarm.exposure = Exposure(adversary, 0, 1)
        swarm.begin_round(0)
        assert swarm.cheats(0, CHEAT)
        swarm.scatter()
        for seat in swarm.seats[0]:
            seat.phi_P = seat.params_P.clone()
        swarm.begin_round(1)
        assert not swarm.cheats(0, CHEAT)
        assert not swarm.gives(0, CHEAT, 1)
        sources += [i for i in range(CHEAT) if torch.equal(swarm.params(i), swarm.params())]
    assert len(sources) == 2
    assert sources[0] == sources[1], "the same as if nobody had cheated"


@pytest.mark.parametrize("adversary", [None, LEAVES])
def test_no_checkpoint_is_drawn_from_who_would_not_be_verified(adversary: Adversary | None) -> None:
    swarm = Watched(adversary)
    for index, seat in enumerate(swarm.seats[0]):
        seat.phi_P = torch.full_like(seat.phi_P, float(index))
    drawn = set[int]()
    for round_index in range(4, 200, 4):
        swarm.begin_round(round_index)
        drawn.add(int(swarm.anchors[0][0]))
    assert drawn == set(range(REPLICAS if adversary is None else CHEAT))


def test_figures_are_differences_to_the_honest_run_of_the_same_seed() -> None:
    runs = list[Run]()
    for stages, replicas in SWARMS:
        factor = 2 if replicas == FEW else 1
        for seed in (1, 2):
            base = 10.0 * stages + seed
            runs.append(Run(HONEST, "", seed, stages, replicas, Ended(base, base, 5 * replicas)))
            left = Ended(base + 0.5 * factor, base, 5 * replicas)
            runs.append(Run(LEAVES.name, MIDDLE, seed, stages, replicas, left))
            for number, adversary in enumerate(ADVERSARIES):
                for when, worse in ((MIDDLE, 0.01), (LATE, 0.001)):
                    nats = base + worse * number * seed * factor
                    if adversary.stages == stages:
                        ended = Ended(nats, nats, 5 * replicas)
                        runs.append(Run(adversary.name, when, seed, stages, replicas, ended))
    outcome = Outcome()
    read(runs, outcome)
    figures, last = outcome.figures, len(ADVERSARIES) - 1
    for number, adversary in enumerate(ADVERSARIES):
        assert figures[f"{adversary.name}_nats"] == pytest.approx(0.015 * number)
    assert figures["worst_nats"] == pytest.approx(0.015 * last)
    assert figures["worst_late_nats"] == pytest.approx(0.0015 * last)
    assert (figures["honest_nats"], figures["left_nats"]) == (11.5, 0.5)
    of_one_stage = [i for i, adversary in enumerate(ADVERSARIES) if adversary.stages == 1][-1]
    assert figures["few_worst_nats"] == pytest.approx(0.03 * of_one_stage)
    assert (figures["few_honest_nats"], figures["few_left_nats"]) == (11.5, 1.0)
    assert outcome.detail["over_the_bar"] == [f"{one.name} {MIDDLE}" for one in ADVERSARIES[2:]]
