"""The outcome of each check is reported once, with names and amounts."""

from swarm.cli.demo.report import Story
from swarm.node.api.schema import StateDocument
from tests.web.snapshots import a_checked_snapshot, a_state


def a_document(phase: str) -> dict[str, object]:
    check = {
        "round": 8,
        "stage": 0,
        "seat": 4,
        "name": "calm-stoat-008",
        "phase": phase,
        "accusers": ["brisk-seal-274"],
        "dispute": {"window": 3} if phase == "disputed" else None,
    }
    return {"checks": [check], "peers": [{"name": "calm-stoat-008", "stake": 1_000_000}]}


def test_nothing_is_reported_while_all_agree() -> None:
    """Verified segments are not reported."""
    assert Story().read(a_state()) == []
    assert Story().read(StateDocument()) == []
    assert Story().read(a_state(a_document("verified"))) == []


def test_caught_then_evicted_each_once() -> None:
    """With the window, who found it, and where the stake went."""
    story = Story()
    message = story.read(a_state(a_document("disputed")))
    assert message == [
        "caught: window 3 of segment 8/0/4 of calm-stoat-008 differs (brisk-seal-274 found it)"
    ]
    assert story.read(a_state(a_document("disputed"))) == []
    conviction = {"round": 8, "stage": 0, "seat": 4, "name": "calm-stoat-008", "height": 120}
    conviction |= {"accuser": "brisk-seal-274", "stake_taken": 1_000_000}
    after = {**a_document("guilty"), "convictions": [conviction]}
    assert story.read(a_state(after)) == [
        "calm-stoat-008 is evicted, its stake of 1.00M is taken: 400 000 to brisk-seal-274,"
        " the rest burnt"
    ]
    assert story.read(a_state(after)) == []


def test_a_conviction_seen_late_is_reported_all_the_same() -> None:
    """The state was not polled while it was disputed."""
    assert any(
        "calm-stoat-008 is evicted" in line for line in Story().read(a_state(a_checked_snapshot()))
    )


def test_a_lie_about_what_was_sent_is_told_once_with_who_proved_it() -> None:
    check = {**a_document("guilty")["checks"][0], "proved_by": "brisk-seal-274"}  # type: ignore[index]
    story = Story()
    assert story.read(a_state({"checks": [check]})) == [
        "caught: segment 8/0/4 of calm-stoat-008 is false by what it signed itself"
        " (brisk-seal-274 has proved it)"
    ]
    assert story.read(a_state({"checks": [check]})) == []
