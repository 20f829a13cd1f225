"""A file of evidence is read within its bounds, whole or not at all, and refused by name."""

import random
from functools import cache
from pathlib import Path

import pytest

from swarm.errors import BadConfig, BadEncoding
from swarm.primitives.codec import decode, encode, replace
from swarm.verify.evidence import (
    FILE_BYTES_MAX,
    HEAD_BYTES_MAX,
    MAGIC,
    TEXT_BYTES_MAX,
    Evidence,
    EvidenceHead,
    Part,
    PartKind,
    read_evidence,
)
from swarm.verify.evidence_file import read_evidence_file, write_evidence
from tests.verify.evidence_world import a_world, file_of, reader


@cache
def evidence() -> Evidence:
    world = a_world()
    return world.shown(world.lying())


def read_back(raw: bytes) -> Evidence:
    return read_evidence(reader(raw))


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "evidence"
    write_evidence(path, evidence())
    assert read_evidence_file(path) == evidence()
    assert [one.name for one in tmp_path.iterdir()] == ["evidence"]


def test_a_window_that_is_too_large_for_a_file_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.verify.evidence.FILE_BYTES_MAX", 10_000)
    with pytest.raises(BadConfig, match="too large"):
        write_evidence(tmp_path / "evidence", evidence())
    assert not list(tmp_path.iterdir())


@pytest.mark.rule("V44")
def test_a_file_that_was_cut_or_goes_on_is_refused() -> None:
    raw = file_of(evidence())
    rng = random.Random(8)
    for length in [0, 7, 8, 11, 12, len(raw) - 1, *(rng.randrange(len(raw)) for _ in range(30))]:
        with pytest.raises(BadEncoding, match=r"not evidence|ends within"):
            read_back(raw[:length])
    with pytest.raises(BadEncoding, match="goes on after its last part"):
        read_back(raw + b"x")
    with pytest.raises(BadEncoding, match="not evidence"):
        read_back(b"something else entirely")
    with pytest.raises(BadEncoding, match="another version"):
        read_back(b"SWARMEV9" + raw[8:])


def with_parts(raw: bytes, *parts: Part) -> bytes:
    """The file with another list of parts."""
    length = int.from_bytes(raw[8:12], "big")
    head = decode(EvidenceHead, raw[12 : 12 + length])
    encoded = encode(replace(head, parts=parts))
    return MAGIC + len(encoded).to_bytes(4, "big") + encoded + raw[12 + length :]


@pytest.mark.rule("V44")
@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        ([], "no log"),
        ([(1, 0, 10, 10)], "no log"),
        ([(2, 0, 1, 1), (1, 0, 1, 1)], "out of order"),
        ([(1, 0, 1, 1), (1, 0, 1, 1)], "out of order"),
        ([(1, 0, 1, 1), (1, 1, 1, 1)], "second part"),
        ([(1, 0, 1 << 40, 1), (2, 0, 1, 1)], "a part of kind 1"),
        ([(1, 0, -1, 0), (2, 0, 1, 1)], "a part of kind 1"),
        ([(1, 0, 1, 2), (2, 0, 1, 1)], "longer packed"),
        ([(1, 0, 1, 1), (2, 0, 1, 1), (9, 0, 1, 1)], "a part of kind 9"),
        ([(1, 0, 1, 1), (2, 0, 1, 1), (3, -1, 1, 1)], "second part"),
        (
            [(1, 0, 1, 1), (2, 0, 1, 1), *((3, n, FILE_BYTES_MAX // 2, 1) for n in range(3))],
            "above the 512 MiB",
        ),
        (
            [(1, 0, 1, 1), (2, 0, 1, 1), *((5, n, 1 << 20, 1) for n in range(129))],
            f"{TEXT_BYTES_MAX >> 20} is the most",
        ),
        ([(1, 0, 1, 1), (2, 0, 1, 1), *((5, n, 1, 1) for n in range(2000))], "parts where"),
    ],
)
def test_parts_out_of_bounds_are_refused_before_they_are_read(
    parts: list[tuple[int, int, int, int]], cause: str
) -> None:
    raw = with_parts(file_of(evidence()), *(Part(*part) for part in parts))
    asked = list[int]()

    def read(count: int) -> bytes:
        asked.append(count)
        return source(count)

    source = reader(raw)
    with pytest.raises(BadEncoding, match=cause):
        read_evidence(read)
    assert max(asked) < 1 << 20


def test_a_head_without_end_is_refused_before_it_is_read() -> None:
    raw = MAGIC + (HEAD_BYTES_MAX + 1).to_bytes(4, "big")
    with pytest.raises(BadEncoding, match="a head of"):
        read_back(raw)


def test_a_part_that_unpacks_to_more_than_it_says_is_refused() -> None:
    raw = file_of(evidence())
    length = int.from_bytes(raw[8:12], "big")
    parts = decode(EvidenceHead, raw[12 : 12 + length]).parts
    packed = next(part for part in parts if part.wire_bytes < part.num_bytes)
    bent = [replace(p, num_bytes=p.num_bytes + 1) if p == packed else p for p in parts]
    with pytest.raises(BadEncoding, match="zstandard"):
        read_back(with_parts(raw, *bent))
    assert {part.kind for part in parts} == {
        PartKind.LOG,
        PartKind.SENT,
        PartKind.WEIGHTS,
        PartKind.CHUNK,
    }
