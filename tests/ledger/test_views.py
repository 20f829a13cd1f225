"""A whole model can be had of a round only if every stage still has its checkpoint."""

from types import SimpleNamespace as Some
from typing import Any

from swarm.ledger.views import Boundary, boundaries, common_rounds
from swarm.types import Digest


def a_run(*stages: tuple[int, ...]) -> Any:  # noqa: ANN401  stands for a run
    kept = [
        tuple(Some(round=round_, phi_root=bytes([number, round_])) for round_ in rounds)
        for number, rounds in enumerate(stages)
    ]
    return Some(checkpoints=kept, standing=lambda stage: kept[stage])


def test_the_newest_round_that_all_stages_have_comes_first() -> None:
    run = a_run((8, 6, 4), (6, 4), (8, 6, 4))
    assert common_rounds(run) == [6, 4]
    assert boundaries(run)[0] == Boundary(6, tuple(Digest(bytes([stage, 6])) for stage in range(3)))


def test_a_stage_without_any_leaves_none() -> None:
    assert boundaries(a_run((8,), ())) == []
