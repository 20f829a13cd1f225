"""Documents come back by name, each once, whatever the memory."""

import random
from pathlib import Path

import pytest

from swarm.training.data import build
from swarm.training.data.build import ENTRY_BYTES, Sorter
from swarm.training.data.dataset import document_name


@pytest.mark.parametrize("memory_bytes", [1, 3 * ENTRY_BYTES, 40 * ENTRY_BYTES, 1 << 30])
def test_memory_changes_nothing(tmp_path: Path, memory_bytes: int) -> None:
    """With one document in memory there are more runs than are merged at once."""
    rng = random.Random(0)
    found = [rng.randbytes(rng.randrange(1, 30)) for _ in range(300)]
    found += rng.sample(found, 100) + [b"again"] * 20
    sorter = Sorter(tmp_path, memory_bytes=memory_bytes)
    for document in found:
        sorter.add(document)
    assert sorter.num_added == len(found)
    moved: list[int] = []
    assert list(sorter.drain(moved.append)) == sorted(set(found), key=document_name)
    assert bool(moved) == (memory_bytes < 6 * ENTRY_BYTES), "runs are merged in two goes or in one"


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FAN_IN", 4)
    sorter = Sorter(tmp_path, memory_bytes=1)
    for number in range(50):
        sorter.add(b"%d" % number)
    drained = sorter.drain(lambda _: None)
    next(drained)
    assert len(list(tmp_path.iterdir())) <= 4
    assert len(list(drained)) == 49


def test_nothing_gives_nothing(tmp_path: Path) -> None:
    assert list(Sorter(tmp_path).drain(lambda _: None)) == []
