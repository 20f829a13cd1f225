"""Parts of a state are those of its root, counters those of its parts, and nothing changes by itself."""

import pytest

from swarm.errors import PeerFault
from swarm.primitives.merkle import merkle_root
from swarm.primitives.state_parts import COMPONENTS, OFFERED, STEPS, TOKENS, tokens_component
from swarm.verify.program.states import check_changed, check_parts, check_tokens
from swarm.verify.transcript import COMPONENTS as NAMES

PARTS = tuple(bytes([number]) * 32 for number in range(COMPONENTS))
OTHER = b"\x77" * 32


@pytest.mark.rule("V42")
def test_parts_of_a_state_are_under_its_root() -> None:
    root = merkle_root(PARTS)
    check_parts(PARTS, root)
    for lie in ((), PARTS[:-1], (*PARTS, OTHER), (*PARTS[:-1], b""), (OTHER, *PARTS[1:])):
        with pytest.raises(PeerFault):
            check_parts(lie, root)
    assert (NAMES[STEPS], NAMES[TOKENS], NAMES[OFFERED]) == ("step", "tokens", "snapshot")


@pytest.mark.rule("V42")
def test_tokens_are_those_of_their_part() -> None:
    part = tokens_component(7, (3, 4))
    check_tokens((7, 3, 4), part)
    for lie in ((), (7,), (7, 3, 5), (-1, 3, 4), (1 << 70, 3, 4)):
        with pytest.raises(PeerFault):
            check_tokens(lie, part)


@pytest.mark.rule("V42")
@pytest.mark.parametrize("part", range(COMPONENTS))
def test_no_part_changes_by_itself(part: int) -> None:
    after = (*PARTS[:part], OTHER, *PARTS[part + 1 :])
    check_changed(PARTS, PARTS, {})
    check_changed(PARTS, after, {part: OTHER})
    check_changed(PARTS, after, {}, free={part})
    for changed in ({}, {part: b"\x66" * 32}, {(part + 1) % COMPONENTS: OTHER}):
        with pytest.raises(PeerFault):
            check_changed(PARTS, after, changed)
    with pytest.raises(PeerFault):
        check_changed(PARTS, PARTS, {part: OTHER})
