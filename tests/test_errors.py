"""An error's place in the tree says whose fault it is and how the program ends."""

import pytest

from swarm import errors
from swarm.errors import InvalidStatement, PeerFault, Reason, SwarmError


def every_error() -> list[type[SwarmError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, SwarmError)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SwarmError", 1),
        ("UsageError", 2),
        ("BadTicket", 2),
        ("Unreachable", 3),
        ("BadConfig", 4),
        ("BadIdentity", 5),
        ("VerificationFailed", 6),
        ("Corrupt", 1),
        ("DiskFull", 1),
    ],
)
def test_each_fault_ends_the_program_with_its_code(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code


def test_every_error_is_in_the_drawn_tree() -> None:
    drawn = (errors.__doc__ or "").split()
    assert [kind.__name__ for kind in every_error() if kind.__name__ not in drawn] == []


def test_what_a_peer_can_cause_is_the_peers_fault() -> None:
    for name in ("BadSignature", "BadEncoding", "BrokenPromise", "OutOfTurn"):
        assert issubclass(getattr(errors, name), PeerFault)


def test_a_hint_travels_beside_the_message() -> None:
    error = SwarmError("the cause", hint="the command")
    assert str(error) == "the cause"
    assert error.hint == "the command"


def test_a_refusal_names_its_reason() -> None:
    refusal = InvalidStatement(Reason.FEE, "3 of 10")
    assert refusal.reason is Reason.FEE
    assert str(refusal) == "fee too low: 3 of 10"
    assert str(InvalidStatement(Reason.FULL)) == "no room"
