"""A run is checked within a tolerance only where honest machines were measured to be closer than any lie."""

import pytest

from swarm.config.spec import MUON, RunSpec
from swarm.config.tolerance import (
    ADAMW_BOUND,
    COLD_BOUND,
    LOG_BYTES_MAX,
    MUON_BOUND,
    bound_at,
    bound_of,
    is_checked,
    log_bytes,
)
from swarm.primitives.codec import replace
from swarm.testing.ledger import small_run_spec
from swarm.training.record.window import (
    WINDOW_BYTES_MAX,
)
from swarm.training.record.window_bytes import (
    encode_window,
)
from tests.verify.windows import harvest, spec_of


@pytest.mark.rule("V46")
@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({}, ADAMW_BOUND),
        ({"codec": "bf16"}, ADAMW_BOUND),
        ({"optimizer": MUON}, MUON_BOUND),
        ({"codec": "int4"}, None),
        ({"codec": "int4-mean"}, None),
        ({"codec": "int3-mean"}, None),
        ({"numerics": "native-bf16"}, None),
        ({"numerics": "seq-f32/1"}, None),
        ({"window_steps": 20}, ADAMW_BOUND),
        ({"window_steps": 21}, None),
        ({"hidden_size": 1024, "intermediate_size": 40_000}, None),
    ],
)
def test_a_run_is_checked_within_a_tolerance_only_where_one_was_measured(
    changes: dict[str, object], bound: float | None
) -> None:
    spec: RunSpec = small_run_spec()
    for name in ("optimizer", "outer", "checks", "model"):
        part = getattr(spec, name)
        mine = {k: v for k, v in changes.items() if k in type(part).__struct_fields__}
        if name == "optimizer":
            mine = {"name": changes["optimizer"]} if "optimizer" in changes else {}
        spec = replace(spec, **{name: replace(part, **mine)})
    spec = replace(spec, numerics=changes.get("numerics", "native"))
    assert bound_of(spec) == bound
    assert is_checked(spec) == (bound is not None or spec.is_exact)


@pytest.mark.rule("V46")
def test_the_first_window_of_adamw_has_a_bound_of_its_own() -> None:
    adamw = small_run_spec()
    muon = replace(adamw, optimizer=replace(adamw.optimizer, name=MUON))
    assert (bound_at(adamw, 0), bound_at(adamw, 1)) == (COLD_BOUND, ADAMW_BOUND)
    assert (bound_at(muon, 0), bound_at(muon, 1)) == (MUON_BOUND, MUON_BOUND)


@pytest.mark.rule("V46", "V19")
def test_a_log_is_not_longer_than_what_is_computed_of_it() -> None:
    assert LOG_BYTES_MAX == WINDOW_BYTES_MAX
    for stages in (1, 2, 3):
        harvested = harvest(spec_of(stages, "native"), rounds=1)
        for segment in harvested.segments.values():
            for data in segment.windows:
                assert sum(map(len, encode_window(data))) <= log_bytes(harvested.spec)
