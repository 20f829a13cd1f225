"""A checkup says what is well and what mends the rest, and a report for others tells nothing about anybody."""

import pytest

from swarm.cli.checkup import (
    Finding,
    State,
    finding_lines,
    good,
    judge_clock,
    judge_cores,
    judge_errors,
    judge_kernels,
    judge_memory,
    judge_packages,
    judge_python,
    judge_reach,
    judge_room,
    redacted,
    warning,
)
from swarm.cli.style import Ink
from swarm.events import EventKind, make_event
from swarm.limits import Bound, Memory
from swarm.node.api.schema import NodeRow

GIB = 1 << 30
NOW = 1_800_000_000.0
SEED = "9f" * 32


@pytest.mark.rule("C14")
@pytest.mark.parametrize(
    ("found", "state", "text"),
    [
        (judge_python((3, 11, 7), is_known_system=True), State.GOOD, "Python 3.11.7"),
        (judge_python((3, 10, 0), is_known_system=True), State.BAD, "too old"),
        (judge_python((3, 12, 0), is_known_system=False), State.WARNING, "not tested"),
        (judge_packages({"a": "1"}, {"a": "1+cpu", "b": "2"}), State.GOOD, "2 installed, with"),
        (judge_packages({}, {"a": "1"}), State.GOOD, "is not here"),
        (judge_packages({"a": "1"}, {"a": "2"}), State.WARNING, "a 2 (1 is tested)"),
        (
            judge_packages(dict.fromkeys("abcdef", "1"), dict.fromkeys("abcdef", "2")),
            State.WARNING,
            "and 3 more",
        ),
        (judge_memory(Memory(8 * GIB, Bound.MACHINE)), State.GOOD, "this machine has 8.6 GB"),
        (judge_memory(Memory(GIB, Bound.GROUP, "/c")), State.WARNING, "enough for small runs"),
        (judge_memory(Memory(GIB // 4, Bound.GROUP, "/c")), State.BAD, "too little for a node"),
        (judge_memory(Memory(GIB // 4, Bound.MACHINE)), State.BAD, "too little for a node"),
        (judge_cores(4, 4), State.GOOD, "4 cores"),
        (judge_cores(1.5, 2), State.WARNING, "threads = 2"),
        (judge_cores(0.5, 1), State.WARNING, "late in rounds"),
        (judge_room(10 * GIB, 8_000, "/h"), State.GOOD, "free on the disk of /h"),
        (judge_room(GIB, 8_000, "/h"), State.WARNING, "the node may use"),
        (judge_room(1 << 20, 8_000, "/h"), State.BAD, "would rest"),
        (judge_reach(None), State.GOOD, "while a node runs"),
        (judge_reach(NodeRow()), State.GOOD, "nobody has tried"),
        (judge_reach(NodeRow(reach="public", reach_text="anybody can")), State.GOOD, "anybody can"),
        (judge_reach(NodeRow(reach="nobody")), State.WARNING, "takes part all the same"),
        (judge_reach(NodeRow(reach="machine", reach_text="only this")), State.WARNING, "only this"),
        (judge_clock(NOW, NOW + 60, is_synchronized=True), State.GOOD, "synchronized"),
        (judge_clock(NOW, 0, is_synchronized=None), State.GOOD, "not behind"),
        (judge_clock(NOW, 0, is_synchronized=False), State.WARNING, "not synchronized"),
        (judge_clock(NOW, NOW + 7_200, is_synchronized=True), State.BAD, "behind what this home"),
        (judge_clock(3.0, 0, is_synchronized=None), State.BAD, "never set"),
        (judge_errors([], []), State.GOOD, "no node has run here yet"),
        (
            judge_errors([make_event(1, EventKind.WARNING, "late")], []),
            State.GOOD,
            "1 warning in the newest 1 event",
        ),
        (judge_errors([make_event(1, EventKind.ERROR, "gone")], []), State.WARNING, "gone"),
        (judge_errors([], ["trace-1.txt"]), State.WARNING, "trace-1.txt"),
        (judge_kernels(None, is_late=True), State.WARNING, "too long"),
        (judge_kernels(None, is_late=False), State.BAD, "without an answer"),
        (judge_kernels({"error": "wrong bits"}, is_late=False), State.BAD, "wrong bits"),
        (judge_kernels({"notice": "slow"}, is_late=False), State.WARNING, "a hundred times"),
        (
            judge_kernels({"name": "n", "notice": "", "tree": True}, is_late=False),
            State.WARNING,
            "not compiled: levels",
        ),
        (
            judge_kernels({"name": "c", "notice": "", "tree": True, "levels": True}, is_late=False),
            State.GOOD,
            "every bit",
        ),
    ],
)
def test_each_check_has_a_state_a_sentence_and_what_mends_it(
    found: Finding, state: State, text: str
) -> None:
    assert found.state is state
    assert text in found.text
    assert bool(found.hint) == (state is not State.GOOD)
    assert "\n" not in found.text + found.hint


@pytest.mark.rule("C14")
def test_findings_are_shown_with_their_remedies_and_counted() -> None:
    lines = finding_lines([good("a", "well"), warning("b", "so so", "mend it")], Ink())
    assert lines[0] == "good     a         well"
    assert lines[2].strip() == "try: mend it"
    assert lines[-1] == "1 good, 1 warning, 0 bad"


@pytest.mark.rule("C14", "S21")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "dialled /ip4/203.0.113.9/tcp/4001/p2p/12D3KooWabc: refused",
            "dialled [address]: refused",
        ),
        ("/dns4/peer.example.org/tcp/4001 is gone", "[address] is gone"),
        ("203.0.113.9:4001, [2001:db8::1]:4001", "[address], [[address]]:4001"),
        ("::1 and fe80::1", "[address] and [address]"),
        ("peer.example.org:4001 is slow", "[address] is slow"),
        (f"seed {SEED} {SEED.upper()}", "seed [secret] [secret]"),
        (f"digest {'ab' * 32}", "digest [hex]"),
        ("token t0k3n!", "token [secret]"),
        ("ticket swarm1:3zfUyigpLX6FsvjdoXPk", "ticket [ticket]"),
        ("see https://example.org/x?y=z", "see [url]"),
        ("peer 12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf", "peer [peer]"),
        ('File "/home/jo/secret/a.py", line 3', 'File "[path]", line 3'),
        ("/home/jo/.swarm/store.sqlite is full", "[home]/store.sqlite is full"),
        ("/home/jo/.swarm: full", "[home]: full"),
        ("/home/jo/.swarmed/x", "[path]"),
        ("/home/jo/.swarm/../private/x", "[path]"),
        ("../private/x and ~/private and ./x", "[path] and [path] and [path]"),
        ("round 0/21 of 3 and/or 4 took 1.25 s", "round 0/21 of 3 and/or 4 took 1.25 s"),
    ],
)
def test_a_report_for_others_tells_nothing_about_anybody(text: str, shown: str) -> None:
    assert redacted(text, "/home/jo/.swarm", [SEED, "t0k3n!", ""]) == shown


@pytest.mark.rule("C14")
def test_a_home_with_a_space_in_its_name_is_still_the_home() -> None:
    assert redacted("/home/jo doe/x is full", "/home/jo doe") == "[home]/x is full"
    assert redacted("/etc/passwd", "/") == "[path]"
