"""A hostile run spec is refused by name of its field, and an honest one is not."""

import pytest

from swarm.config.spec import NANO, CheckSpec, RunSpec
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import LEAVES_MAX
from swarm.ledger.transition.prices import leaves_max, segment_tokens_max
from swarm.ledger.transition.runs import (
    JUDGING_ROUNDS,
    check_run_spec,
    checkpoints_kept,
    rounds_kept,
)
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.codec import replace
from swarm.testing.ledger import small_run_spec

SPEC = small_run_spec()
HUGE = (1 << 63) - 1


def test_an_honest_spec_passes_small_or_of_the_papers_sizes() -> None:
    check_run_spec(SPEC)
    large = replace(SPEC.model, vocab_size=256, hidden_size=2_048, num_layers=24, num_heads=16,
                    num_kv_heads=16, intermediate_size=5_632, seq_len=1_000)  # fmt: skip
    check_run_spec(
        small_run_spec(
            model=large,
            num_stages=8,
            replicas_max=32,
            rounds=5_000,
            round_blocks=150,
            microbatch_size=1,
            microbatches_per_step=64,
            inner_steps_max=50,
        )
    )


def hostile() -> list[tuple[str, RunSpec]]:
    cases: list[tuple[str, RunSpec]] = []
    for part in ("model", "optimizer", "outer", "data", "deadlines", "checks"):
        struct = getattr(SPEC, part)
        for field in type(struct).__annotations__:
            if type(getattr(struct, field)) is int:
                for value in (-1, HUGE):
                    changed = replace(struct, **{field: value})
                    cases.append((f"{part}.{field} {value}", small_run_spec(**{part: changed})))
    for field in RunSpec.__annotations__:
        if type(getattr(SPEC, field)) is int:
            cases.extend((f"{field} {v}", small_run_spec(**{field: v})) for v in (-1, HUGE + 1))
    cases.extend(
        [
            ("no name", small_run_spec(name="")),
            ("long name", small_run_spec(name="x" * 65)),
            ("escape codes", small_run_spec(name="\x1b[2J")),
            ("no rates", small_run_spec(optimizer=replace(SPEC.optimizer, learning_rates_nano=()))),
            ("many rates", small_run_spec(
                optimizer=replace(SPEC.optimizer, learning_rates_nano=(1,) * 1025))),
            ("negative rate", small_run_spec(
                optimizer=replace(SPEC.optimizer, learning_rates_nano=(-1,)))),
            ("many weights", small_run_spec(outer=replace(SPEC.outer, age_weights_nano=(1,) * 17))),
            ("weight above one", small_run_spec(
                outer=replace(SPEC.outer, age_weights_nano=(NANO + 1,)))),
            ("starts of a stage", small_run_spec(starts=small_run_spec().starts[:1])),
            ("leaves", small_run_spec(inner_steps_max=255)),
            ("rounds in a window", small_run_spec(
                round_blocks=3, checks=CheckSpec(NANO, 10, 8_200))),
            ("checkpoints in a window", small_run_spec(
                model=replace(SPEC.model, num_layers=64), num_stages=64, checkpoint_rounds=1)),
            ("numerics", small_run_spec(numerics="float8")),
            ("tokenizer", small_run_spec(data=replace(SPEC.data, tokenizer="../../etc"))),
            ("stages", small_run_spec(num_stages=3)),
            ("heads", small_run_spec(model=replace(SPEC.model, num_heads=5))),
            ("odd head", small_run_spec(model=replace(SPEC.model, hidden_size=6, num_heads=2))),
            ("kv heads", small_run_spec(model=replace(SPEC.model, num_heads=4, num_kv_heads=3))),
            ("seats", small_run_spec(
                model=replace(SPEC.model, num_layers=64), num_stages=64, replicas_max=17)),
            ("tokens", small_run_spec(microbatch_size=1 << 16, microbatches_per_step=1 << 16)),
            ("unstable", small_run_spec(
                outer=replace(SPEC.outer, alpha_nano=NANO // 2, gamma_nano=NANO * 3 // 2))),
        ]
    )  # fmt: skip
    return cases


@pytest.mark.rule("L13", "S27")
@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in hostile()])
def test_a_field_out_of_bounds_is_refused(spec: RunSpec) -> None:
    with pytest.raises(InvalidStatement) as caught:
        check_run_spec(spec)
    assert caught.value.reason is Reason.BAD_FIELD


@pytest.mark.rule("T19")
@pytest.mark.parametrize(("alpha", "bound"), [(0, 2.0), (NANO // 2, 1.5), (NANO * 9 // 10, 0.38)])
def test_gamma_is_held_below_two_times_one_minus_alpha_squared(alpha: int, bound: float) -> None:
    for gamma, is_stable in ((bound - 1e-6, True), (bound, False)):
        outer = replace(SPEC.outer, alpha_nano=alpha, gamma_nano=round(gamma * NANO))
        try:
            check_run_spec(small_run_spec(outer=outer))
            assert is_stable
        except InvalidStatement:
            assert not is_stable


@pytest.mark.rule("L13")
def test_a_segment_shows_a_leaf_for_every_exchange() -> None:
    often = replace(SPEC.outer, trades_per_round=4)
    spec = small_run_spec(outer=often)
    assert leaves_max(spec) == leaves_max(SPEC) + 3 * SPEC.outer.fragments
    many = replace(SPEC.outer, fragments=32, trades_per_round=8)
    with pytest.raises(InvalidStatement, match="steps and merges"):
        check_run_spec(small_run_spec(outer=many, round_blocks=20))


def test_a_segment_holds_what_its_feeders_could_send() -> None:
    step = SPEC.microbatches_per_step * SPEC.microbatch_size * SPEC.model.seq_len
    assert segment_tokens_max(SPEC, 3) == 3 * SPEC.inner_steps_max * step
    assert segment_tokens_max(SPEC, 0) == SPEC.inner_steps_max * step


@pytest.mark.rule("L25")
@pytest.mark.parametrize(
    ("blocks", "window", "every"),
    [(3, 20, 1), (4, 120, 2), (10, 120, 4), (150, 1440, 8), (6, 1, 3)],
)
def test_every_anchor_that_can_be_asked_for_is_still_listed(
    blocks: int, window: int, every: int
) -> None:
    """Against a run that posts each checkpoint as early or as late as it may, whichever hides more."""
    spec = small_run_spec(
        round_blocks=blocks, checkpoint_rounds=every, checks=CheckSpec(NANO, 10, window)
    )
    kept, rounds = checkpoints_kept(spec), 60 * every + window // blocks + 80
    for delay in (0, 2 * blocks - 1):
        posted = [(r * blocks + delay, r) for r in range(every, rounds, every)]
        posted = sorted([*posted, ((rounds - 1) * blocks, rounds - 1)])
        for at in range(2 * every, rounds - 40):
            known = [r for height, r in posted if height <= at * blocks]
            if len(known) < 2:
                continue
            end = (at + 3) * blocks - 1 + window + JUDGING_ROUNDS * blocks
            listed = sorted((r for height, r in posted if height <= end), reverse=True)[:kept]
            assert set(known[-2:]) <= set(listed), "its anchor, and that of a peer late by one"


def test_what_is_kept_of_common_runs_is_little() -> None:
    demo = small_run_spec(round_blocks=10, checkpoint_rounds=4, checks=CheckSpec(NANO, 10, 120))
    assert (rounds_kept(demo), checkpoints_kept(demo)) == (15, 14)
    usual = small_run_spec(round_blocks=150, checkpoint_rounds=8, checks=CheckSpec(NANO, 10, 1440))
    assert (rounds_kept(usual), checkpoints_kept(usual)) == (13, 8)


@pytest.mark.rule("L13")
def test_a_segment_of_more_steps_and_merges_than_a_reveal_may_have_windows_is_refused() -> None:
    """With windows of one step each, every window of the longest segment can be shown."""
    longest = replace(SPEC, checks=CheckSpec(NANO, 1, 120))
    steps = LEAVES_MAX - longest.outer.exchanges
    check_run_spec(replace(longest, inner_steps_max=steps))
    assert num_windows(steps, 1) <= LEAVES_MAX
    with pytest.raises(InvalidStatement, match="257 steps and merges where 256 is the most"):
        check_run_spec(replace(longest, inner_steps_max=steps + 1))
