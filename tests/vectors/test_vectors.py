"""No format changes by accident: the golden vectors can be built again, byte for byte."""

import json
from pathlib import Path

import pytest

from tests.vectors.cases import VECTORS

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_every_vector_can_be_built_again(name: str) -> None:
    stored = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    built = json.loads(json.dumps(VECTORS[name]()))
    for old, new in zip(stored, built, strict=True):
        assert new == old, f"{name}: {old['kind']} changed; if on purpose, run scripts/make_vectors"


def test_there_is_no_vector_that_nobody_builds() -> None:
    assert {path.stem for path in HERE.glob("*.json")} == set(VECTORS)
