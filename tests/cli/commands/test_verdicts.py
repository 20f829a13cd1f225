"""A verdict has fixed keys for programs, three lines for people, and no other way to steer a terminal."""

import json

import pytest

from swarm.cli.commands.ledger_views import AuditTarget, audit_lines, audit_row
from swarm.cli.style import Ink
from swarm.errors import Unreachable, UsageError

KEYS = """round stage seat window solver height verdict claim replay evidence
text""".split()
TARGET = AuditTarget(
    round=40, stage=1, seat=0, window=2, num_windows=5, solver="glad-quail-197", height=512
)


def test_an_honest_window() -> None:
    """The claim, what the replay gave, the verdict."""
    answer = {
        "verdict": "honest",
        "text": ["window 4 is honest", "all windows"],
        "claim": "9f" * 32,
    }
    row = audit_row(TARGET, {**answer, "window": 4})
    assert list(row) == KEYS
    assert json.loads(json.dumps(row))["evidence"] is None
    assert audit_lines(row, TARGET, Ink()) == [
        "claim   glad-quail-197 #512 segment 40/1/0, window 4 of 5, 9f9f9f9f9f9f9f9f",
        "replay  window 4 is honest",
        "        all windows",
        "verdict HONEST",
    ]


def test_a_fraud_says_what_differs_and_the_next_command() -> None:
    """As docs/spec/experience.md section 2 promises."""
    answer = {"verdict": "fraud", "evidence": "/h/evidence.swarm"}
    row = audit_row(TARGET, answer)
    assert list(row) == KEYS
    lines = audit_lines(row, TARGET, Ink())
    assert lines[1] == "replay  its log gives another result than the one it has shown"
    assert lines[-1] == "verdict FRAUD -> swarm report /h/evidence.swarm"


def test_no_verdict_is_an_error_with_a_cause() -> None:
    """Not shown yet is a matter of time, not served one of the network."""
    with pytest.raises(UsageError, match="40/1/0 is not revealed yet") as caught:
        audit_row(TARGET, {"verdict": "not_revealed"})
    assert caught.value.hint.startswith("swarm audit "), "there is nothing to report yet"
    with pytest.raises(Unreachable, match="glad-quail-197 does not answer"):
        audit_row(TARGET, {"verdict": "not_served", "text": ["glad-quail-197 does not answer"]})
    with pytest.raises(Unreachable, match="no peer serves the logs of segment 40/1/0"):
        audit_row(TARGET, {})


@pytest.mark.rule("C6")
def test_the_message_of_another_peer_is_printable() -> None:
    """Whatever the other side put into it."""
    answer = {"verdict": "fraud", "text": ["\x1b[2Jx\n"], "evidence": "a\x1b]0;b\x07"}
    row = audit_row(TARGET, answer)
    assert all(line.isprintable() for line in audit_lines(row, TARGET, Ink()))
