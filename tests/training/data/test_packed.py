"""gzip and zstandard are read as a stream of bounded memory; bombs and damaged members are named."""

import gzip
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from swarm.errors import BadConfig
from swarm.training.data import packed as module
from swarm.training.data.packed import plain_name, unpacked

TEXT = b"".join(b"line %d\n" % number for number in range(30_000))
SKIPPED = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"12345"


def read(path: Path) -> bytes:
    with path.open("rb") as file:
        return unpacked(file, path).read()


def drained(path: Path) -> None:
    with path.open("rb") as file:
        stream = unpacked(file, path)
        while stream.read(1 << 16):
            pass


def pack(data: bytes, way: str) -> bytes:
    return gzip.compress(data, 1) if way == "gzip" else zstandard.compress(data, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl.gz"


@pytest.mark.rule("T13c")
@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_members_that_follow_each_other_are_one_text(path: Path, way: str) -> None:
    path.write_bytes(pack(TEXT, way))
    assert read(path) == TEXT
    path.write_bytes(pack(TEXT, way) + pack(b"", way) + pack(b"end", way) + bytes(100_000))
    assert read(path) == TEXT + b"end"
    path.write_bytes(TEXT)
    assert read(path) == TEXT, "the bytes count, not the name"


def test_frames_of_zstandard_without_content_are_skipped(path: Path) -> None:
    path.write_bytes(SKIPPED + pack(TEXT, "zstd") + SKIPPED)
    assert read(path) == TEXT


@pytest.mark.rule("T13c")
@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_a_damaged_or_cut_member_is_named_with_its_byte(path: Path, way: str) -> None:
    first, second = pack(TEXT, way), pack(TEXT[::-1], way)
    begins = f"{path} is damaged: the {way} (member|frame) that begins at byte"
    for cut in (5, len(second) // 2, len(second) - 1):
        path.write_bytes(first + second[:cut])
        with pytest.raises(
            BadConfig, match=f"{begins} {len(first)} .*past byte {len(first) + cut}"
        ):
            read(path)
    path.write_bytes(first + b"this is no member")
    with pytest.raises(BadConfig, match=f"{begins} {len(first)} ") as caught:
        read(path)
    assert f"{way} -dc {path} > {path.with_suffix('')}" in caught.value.hint
    broken = bytearray(first)
    broken[len(first) // 2 : len(first) // 2 + 40] = bytes(40)
    path.write_bytes(broken)
    with pytest.raises(BadConfig, match=f"{begins} 0 "):
        read(path)


@pytest.mark.rule("T13c", "S37")
@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_a_bomb_is_refused_by_name_within_bounded_memory(
    path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROWTH_FREE_BYTES", 1 << 20)
    monkeypatch.setattr(module, "GROWTH_MAX", 2)
    path.write_bytes(pack(bytes(64 << 20), way))
    tracemalloc.start()
    try:
        with pytest.raises(BadConfig, match=r"a\.jsonl\.gz has .* grows to"):
            drained(path)
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.rule("T13c")
def test_a_frame_that_asks_for_a_gigabyte_of_memory_is_refused(path: Path) -> None:
    asks = zstandard.ZstdCompressionParameters(window_log=30)
    writer = zstandard.ZstdCompressor(compression_params=asks).compressobj()
    path.write_bytes(writer.compress(b"x" * 100) + writer.flush())
    with pytest.raises(BadConfig, match="too much memory"):
        read(path)


def test_a_thousand_empty_members_cost_no_more_than_their_bytes(path: Path) -> None:
    path.write_bytes(pack(b"", "gzip") * 2000 + pack(b"x", "gzip"))
    assert read(path) == b"x"


def test_the_name_within() -> None:
    assert plain_name(Path("in/A.JSONL.GZ")) == "a.jsonl"
    assert plain_name(Path("a.json.zst")) == "a.json"
    assert plain_name(Path("a.txt")) == "a.txt"
