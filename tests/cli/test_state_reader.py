"""What a node says of itself is read into structs, whatever release it is of and whatever strangers wrote."""

import pytest

from swarm.cli.state_reader import audits, me, read_answer, read_state, remark
from swarm.errors import Unreachable
from swarm.node.api.schema import AuditRecord, PeerRow, StateDocument
from tests.web.snapshots import a_snapshot, a_state


def test_what_is_missing_or_unknown_is_no_error() -> None:
    """A node of another release leaves fields out, or has others; one that starts has no run."""
    assert read_state({"run": None, "novelty": [1], "node": {"colour": "red"}}) == StateDocument()
    assert read_state({}).health.verdict == "unknown"
    assert me(StateDocument()) is None


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"peers": 3}, r"\$\.peers"),
        ({"run": {"tokens": "many"}}, r"\$\.run\.tokens"),
        ({"loss_curve": [[1]]}, r"\$\.loss_curve"),
        ([], "expected `object`"),
    ],
)
def test_another_type_is_one_error_that_names_the_field(fields: object, where: str) -> None:
    with pytest.raises(Unreachable, match="a form that this swarm does not read") as caught:
        read_state(fields)
    assert caught.match(r"(?i)" + where)
    assert "swarm --version" in caught.value.hint


@pytest.mark.rule("C6", "S23")
def test_a_strangers_text_cannot_steer_the_terminal() -> None:
    """Escape codes and direction marks become spaces, at any depth."""
    peer = {"name": "\x1b[2Jotter\u202e\n", "audits": {"verified": 1}}
    state = read_state({"peers": [peer], "events": [{"text": "a\x1b]0;b\x07"}]})
    assert state.peers[0].name.isprintable()
    assert state.events[0].text.isprintable()


def test_an_answer_nested_without_end_is_refused() -> None:
    deep: object = 1
    for _ in range(1000):
        deep = [deep]
    with pytest.raises(Unreachable):
        read_answer(tuple[int, ...], deep)


def test_this_node_is_found_among_the_peers() -> None:
    mine = me(a_state())
    assert mine is not None
    assert mine.name == "hazy-otter-697"


def test_every_key_of_the_fixture_is_in_the_schema() -> None:
    """So that no test of a view reads what no node says."""

    def missing(given: object, known: object, path: str) -> list[str]:
        if isinstance(given, dict) and isinstance(known, dict):
            if path.endswith(("checks", "dispute")):  # by phase; by name
                return []
            lost = [f"{path}.{key}" for key in given if key not in known]
            inside = (
                missing(given[key], known[key], f"{path}.{key}") for key in given if key in known
            )
            return lost + [one for found in inside for one in found]
        if isinstance(given, list) and isinstance(known, list):
            pairs = zip(given, known, strict=True)
            return [one for a, b in pairs for one in missing(a, b, f"{path}[]")]
        return []

    from swarm.primitives.codec import fields_of

    allowed = {"$.ledger.tail[].time_s"}
    assert set(missing(a_snapshot(), fields_of(a_state()), "$")) <= allowed


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (PeerRow(state="training", reason="ok"), "training"),
        (PeerRow(state="training", reason="gone for 40 s", condition="gone"), "gone for 40 s"),
        (PeerRow(state="syncing", reason=""), "syncing"),
        (PeerRow(state="training", condition="out"), "proven false, evicted"),
    ],
)
def test_the_reason_weighs_more_than_what_the_peer_claims(peer: PeerRow, expected: str) -> None:
    assert remark(peer) == expected


def test_audits_count_what_was_judged() -> None:
    """A dash before the first verdict."""
    assert audits(PeerRow()) == "-"
    assert audits(PeerRow(audits=AuditRecord(verified=11, silent=1))) == "11/12"
