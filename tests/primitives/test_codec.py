"""Every value has one byte string, and nothing else decodes to it."""

import ast
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import BadEncoding
from swarm.primitives.codec import (
    FRAME_BYTES_MAX,
    Document,
    Message,
    decode,
    encode,
    encode_document,
    fields_of,
    read_document,
)


class Point(Message, frozen=True):
    x: int
    name: str
    data: bytes
    path: tuple[int, ...] = ()


class Left(Message, frozen=True, tag=1):
    value: int


class Right(Message, frozen=True, tag=2):
    value: bytes


@given(
    st.integers(-(2**63), 2**64 - 1),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.binary(max_size=50),
    st.lists(st.integers(-5, 300), max_size=5),
)
def test_what_is_encoded_comes_back(x: int, name: str, data: bytes, path: list[int]) -> None:
    point = Point(x, name, data, tuple(path))
    assert decode(Point, encode(point)) == point


def test_a_union_is_distinguished_by_its_small_tags() -> None:
    for value in (Left(3), Right(b"x")):
        assert decode(Left | Right, encode(value)) == value  # type: ignore[arg-type]
    with pytest.raises(BadEncoding):
        decode(Left, encode(Right(b"x")))


@pytest.mark.rule("S3")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x90",
        b"\x93\x01\xa1a\xc4\x01",
        b"\x95\x01\xa1a\xc4\x00\x90\x01",
        b"\x94\x01\xa1a\xc4\x00\x90\x00",
        b"\x94\xa1a\x01\xc4\x00\x90",
        b"\x94\x01\xa1\xff\xc4\x00\x90",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
    ],
    ids="empty byte none cut long tail swapped utf8 huge deep".split(),
)
def test_bytes_that_are_no_message_are_the_peers_fault(data: bytes) -> None:
    with pytest.raises(BadEncoding):
        decode(Point, data)


@pytest.mark.rule("S3", "S28")
def test_a_longer_form_of_the_same_number_is_refused() -> None:
    honest = encode(Point(1, "a", b""))
    assert honest == b"\x94\x01\xa1a\xc4\x00\x90"
    for longer in (b"\x94\xcc\x01\xa1a\xc4\x00\x90", b"\x94\x01\xd9\x01a\xc4\x00\x90"):
        assert msgspec.msgpack.decode(longer, type=Point) == Point(1, "a", b"")
        with pytest.raises(BadEncoding, match="canonical"):
            decode(Point, longer)


def test_a_default_left_out_is_refused() -> None:
    with pytest.raises(BadEncoding, match="canonical"):
        decode(Point, b"\x93\x01\xa1a\xc4\x00")


@pytest.mark.rule("S3")
def test_a_message_beyond_its_limit_is_not_even_looked_at() -> None:
    data = encode(Point(1, "a", bytes(100)))
    with pytest.raises(BadEncoding, match="at most 50"):
        decode(Point, data, limit=50)
    with pytest.raises(BadEncoding, match="at most"):
        decode(Point, bytes(FRAME_BYTES_MAX + 1))


@pytest.mark.rule("S28")
@given(st.binary(max_size=60))
def test_whatever_decodes_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        value = decode(Point, data)
    except BadEncoding:
        return
    assert encode(value) == data


@pytest.mark.rule("S3", "T30")
def test_nothing_is_read_as_a_pickle() -> None:
    unsafe = {"pickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    for path in sorted((Path(__file__).parents[2] / "swarm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & unsafe, path
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in {"torch.load", "torch.save"}, path
            allowed = [key for key in getattr(node, "keywords", ()) if key.arg == "allow_pickle"]
            assert not allowed, path


class Sample(Document, frozen=True):
    height: int = 0
    share: float | None = None
    names: tuple[str, ...] = ()


def test_a_document_is_json_by_names_and_reads_what_it_knows() -> None:
    """A number that is not finite is null; unknown fields are ignored, missing ones have their default."""
    assert encode_document(Sample(height=3, share=float("nan"))) == (
        b'{"height":3,"share":null,"names":[]}'
    )
    assert read_document(Sample, {"names": ["a"], "novelty": 1}) == Sample(names=("a",))
    assert fields_of([Sample(names=("a",))]) == [{"height": 0, "share": None, "names": ["a"]}]


@pytest.mark.parametrize("fields", [[], {"height": "x"}, {"names": [1]}, None])
def test_a_document_of_another_type_is_refused(fields: object) -> None:
    with pytest.raises(BadEncoding, match="not a Sample"):
        read_document(Sample, fields)
