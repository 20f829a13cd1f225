"""The files that travel with the package are those of the repository."""

from pathlib import Path

import pytest

from swarm.errors import UsageError
from swarm.packaged import packaged_file, packaged_names

CONFIGS = Path(__file__).parents[2] / "configs"


def test_every_file_of_configs_is_packaged() -> None:
    assert packaged_names() == sorted(path.name for path in CONFIGS.glob("*.toml"))
    for name in packaged_names():
        assert packaged_file(name) == (CONFIGS / name).read_text(encoding="utf-8")


def test_a_missing_file_names_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"demo\.toml"):
        packaged_file("../pyproject.toml")
