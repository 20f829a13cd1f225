"""Tensors in spill files are tensors like others, cost no memory, and lie in memory where there is no room."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from swarm import placement, spill


def num_mapped() -> int:
    """Bytes of everything that is mapped."""
    return sum(stop - start for start, stop in spill.mapped_ranges())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(placement, "SPILLED_BYTES_MIN", 64)
    monkeypatch.setattr(placement, "LARGE_BYTES_MIN", 256)
    monkeypatch.setattr(placement, "SLICE_BYTES", 256)
    spill.use_folder(tmp_path / "spill")
    yield tmp_path / "spill"
    spill.use_folder(None)


def test_a_copy_is_mapped_and_what_is_written_to_it_stays(folder: Path) -> None:
    before = num_mapped()
    source = torch.arange(1000.0)
    copy = placement.spilled(source)
    assert num_mapped() - before == 4000
    assert not list(folder.iterdir()), "a file without a name ends with the process"
    copy[10:20] = -1.0
    placement.let_go()
    assert bool((copy[10:20] == -1.0).all())
    assert torch.equal(copy[20:], source[20:])
    assert float(source[15]) == 15.0
    part = copy[:5]
    del copy
    placement.trim()
    assert torch.equal(part, source[:5]), "a view keeps the file"
    del part
    assert num_mapped() == before


def test_zeros_moved_tensors_and_bytes_come_from_the_spill(folder: Path) -> None:
    before = num_mapped()
    zeros = placement.zeros(100)
    assert not bool(zeros.any())
    moved = placement.moved(zeros + 1)
    assert bool((moved == 1).all())
    pieces = [b"a" * 300, b"", b"b" * 700]
    joined = placement.spilled_pieces(pieces)
    assert bytes(joined) == b"".join(pieces)
    assert bytes(placement.spilled_bytes(joined)) == bytes(joined)
    assert num_mapped() - before == 400 + 400 + 1000, "the second copy is gone again"
    assert folder.is_dir()


@pytest.mark.usefixtures("folder")
def test_nothing_is_spilled_or_given_back_until_a_tensor_is_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = list[str]()
    monkeypatch.setattr(spill.SpillFolder, "let_go", lambda _: calls.append("let_go"))
    monkeypatch.setattr(spill.SpillFolder, "trim", lambda _: calls.append("trim"))
    before, small = num_mapped(), torch.ones(32)
    assert placement.moved(small) is small
    kept = [placement.spilled(small), placement.spilled_bytes(b"many bytes" * 100)]
    placement.trim()
    assert (num_mapped(), calls) == (before, [])
    kept.append(placement.zeros(64))
    assert num_mapped() - before == 256
    kept.append(placement.spilled(small))
    assert num_mapped() - before == 256 + 128, "then what is smaller is spilled, too"
    placement.trim()
    assert calls[-1] == "trim"


@pytest.mark.usefixtures("folder")
def test_what_is_small_stays_where_it_is() -> None:
    before, small = num_mapped(), torch.ones(3)
    assert placement.moved(small) is small
    assert placement.spilled(small) is not small
    assert placement.spilled_bytes(b"few") == b"few"
    assert num_mapped() == before


def test_without_a_folder_tensors_lie_in_memory() -> None:
    before, tensor = num_mapped(), torch.ones(1 << 20)
    assert torch.equal(placement.spilled(tensor), tensor)
    assert placement.moved(tensor) is tensor
    assert placement.zeros(1 << 20).numel() == 1 << 20
    assert num_mapped() == before


@pytest.mark.rule("S24")
@pytest.mark.usefixtures("folder")
def test_a_full_disk_costs_memory_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before, tensor = num_mapped(), torch.arange(1000.0)
    assert torch.equal(placement.spilled(tensor), tensor)
    assert bytes(placement.spilled_pieces([b"a" * 100, b"b"])) == b"a" * 100 + b"b"
    assert num_mapped() == before


@pytest.mark.usefixtures("folder")
def test_a_large_file_is_mapped_and_may_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 40)
    before = num_mapped()
    view = spill.file_bytes(path)
    assert num_mapped() - before == 256 * 40
    path.unlink()
    placement.let_go()
    assert bytes(view) == bytes(range(256)) * 40
    (tmp_path / "empty").touch()
    assert len(spill.file_bytes(tmp_path / "empty")) == 0
    (tmp_path / "few").write_bytes(b"few")
    few = spill.file_bytes(tmp_path / "few")
    assert (bytes(few), num_mapped() - before) == (b"few", 256 * 40)
