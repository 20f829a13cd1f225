"""Every field that a spec declares, and values of its type that no honest spec has there."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

from swarm.config.bounds import BOUNDS
from swarm.config.spec import NANO, StageStart
from swarm.primitives.codec import Message, replace
from swarm.types import Digest

CHARS_MAX = 300
START = StageStart(Digest(bytes(32)), 1_000, 1_000, 0)
BENT_STARTS = [
    replace(START, weights=b"short"),
    replace(START, num_parameters=0),
    replace(START, num_parameters=1 << 60),
    replace(START, num_seconds=-1),
    replace(START, num_residuals=1 << 60),
]


def leaves(
    kind: type[Message], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, plain type) of every field of ``kind`` and of the messages in it."""
    for name, declared in get_type_hints(kind).items():
        plain = _plain(declared)
        if isinstance(plain, type) and issubclass(plain, Message):
            yield from leaves(plain, (*path, name))
        else:
            yield (*path, name), plain


def outside(name: str, plain: Any) -> Iterator[object]:  # noqa: ANN401
    """Values of the type of a field that it must refuse; an unforeseen type is an error."""
    if plain is int:
        least, most = BOUNDS[name]  # a number without bounds fails here
        yield from (least - 1, most + 1, -(1 << 63), 1 << 63)
    elif plain is bool:
        return  # it has no others: what else it takes is checked elsewhere
    elif plain is str:
        yield from ("", "\x1b[2J", "../../etc/passwd", "x" * CHARS_MAX)
    elif plain is bytes:
        yield from (b"", bytes(31), bytes(33))
    elif get_origin(plain) is tuple:
        (item, _) = get_args(plain)
        if _plain(item) is int:
            yield from ((), (-1,), (NANO + 1,), (1,) * 2_000)
        elif _plain(item) is bytes:
            yield from ((b"",), (bytes(32),) * 2_000)
        elif _plain(item) is str:
            yield from (("",), ("\x1b[2J",), ("q",), ("x" * CHARS_MAX,) * 2_000)
        elif _plain(item) is StageStart:
            yield from ((START,), (START,) * 3, *((bent,) * 2 for bent in BENT_STARTS))
        else:
            raise AssertionError(f"{name}: say here what a tuple of {item} must not be")
    else:
        raise AssertionError(f"{name}: say here what a {plain} must not be")


def with_value(message: Message, path: tuple[str, ...], value: object) -> Any:  # noqa: ANN401
    """A copy with one field changed, however deep."""
    name, *rest = path
    inner = with_value(getattr(message, name), tuple(rest), value) if rest else value
    return replace(message, **{name: inner})


def _plain(declared: Any) -> Any:  # noqa: ANN401
    """The type behind a name of ours."""
    while hasattr(declared, "__supertype__"):
        declared = declared.__supertype__
    return declared
