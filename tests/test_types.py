"""Names for numbers and bytes cost nothing at run time and mean one thing each."""

from swarm import types
from swarm.types import NO_DIGEST, Amount, PeerId


def test_a_name_is_the_value_itself() -> None:
    assert PeerId(b"p" * 32) == b"p" * 32
    assert Amount(3) + Amount(4) == 7
    assert bytes(32) == NO_DIGEST


def test_every_name_is_explained() -> None:
    """A docstring under each: the only documentation a NewType has."""
    source = (types.__spec__.loader.get_source("swarm.types") or "").splitlines()  # type: ignore[union-attr]
    named = [i for i, line in enumerate(source) if "= NewType(" in line]
    assert named
    assert all(source[i + 1].startswith('"""') for i in named)
