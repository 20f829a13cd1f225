"""A hostile run spec is refused by name of its field, and an honest one is not."""

import pytest

from swarm.codec import replace
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.rehearsal import small_run_spec
from swarm.ledger.spec_check import check_run_spec, segment_tokens_max
from swarm.spec import NANO, CheckSpec, RunSpec

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
            if isinstance(getattr(struct, field), int):
                for value in (-1, HUGE):
                    changed = replace(struct, **{field: value})
                    cases.append((f"{part}.{field} {value}", small_run_spec(**{part: changed})))
    for field in RunSpec.__annotations__:
        if isinstance(getattr(SPEC, field), int):
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
            ("short root", small_run_spec(init_root=b"")),
            ("leaves", small_run_spec(inner_steps_max=255)),
            ("windows", small_run_spec(inner_steps_max=200, checks=CheckSpec(NANO, 1, 120))),
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


@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in hostile()])
def test_a_field_out_of_bounds_is_refused(spec: RunSpec) -> None:
    with pytest.raises(InvalidStatement) as caught:
        check_run_spec(spec)
    assert caught.value.reason is Reason.BAD_FIELD


@pytest.mark.parametrize(("alpha", "bound"), [(0, 2.0), (NANO // 2, 1.5), (NANO * 9 // 10, 0.38)])
def test_gamma_is_held_below_two_times_one_minus_alpha_squared(alpha: int, bound: float) -> None:
    for gamma, is_stable in ((bound - 1e-6, True), (bound, False)):
        outer = replace(SPEC.outer, alpha_nano=alpha, gamma_nano=round(gamma * NANO))
        try:
            check_run_spec(small_run_spec(outer=outer))
            assert is_stable
        except InvalidStatement:
            assert not is_stable


def test_a_segment_holds_what_its_feeders_could_send() -> None:
    step = SPEC.microbatches_per_step * SPEC.microbatch_size * SPEC.model.seq_len
    assert segment_tokens_max(SPEC, 3) == 3 * SPEC.inner_steps_max * step
    assert segment_tokens_max(SPEC, 0) == SPEC.inner_steps_max * step
