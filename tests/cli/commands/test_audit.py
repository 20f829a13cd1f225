"""`swarm audit` and `swarm report` speak through the node of the home, and exit with what they found."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio

from swarm.cli.main import run
from swarm.errors import UsageError
from swarm.node.api.schema import StateDocument
from swarm.primitives.crypto import peer_text
from swarm.web.service import serve_web
from tests.cli.test_node_api import write_address
from tests.ledger.checking import Case, a_case
from tests.web.snapshots import a_snapshot, a_state

KEYS = """round stage seat window solver height verdict claim replay evidence
text""".split()
SOLVER_STAKE = 720
FRAUD = {"verdict": "fraud", "window": 0, "text": ["window 0 is false"], "evidence": "/h/e.swarm"}


@dataclass
class FakeNode:
    """A node that gives the answers that it was given, over a ledger with one revealed segment."""

    home: Path
    case: Case
    answer: Mapping[str, object] = field(
        default_factory=lambda: {"verdict": "honest", "window": 0, "text": ["the same result"]}
    )
    asked: list[Mapping[str, object]] = field(default_factory=list)
    stake: int = SOLVER_STAKE

    def document(self) -> StateDocument:
        document = a_snapshot()
        peers: list[dict[str, object]] = document["peers"]  # type: ignore[assignment]
        me = {**peers[0], "stake": self.stake}
        spec = self.case.ledger.state.run(self.case.run.index).spec
        changed = {
            **document,
            "node": {"peer": peer_text(self.case.ledger.keys[0].peer)},
            "run": {
                "name": spec.name,
                "index": self.case.run.index,
                "solver_stake": SOLVER_STAKE,
            },
            "peers": [me, *peers[1:]],
        }
        return a_state(changed)

    async def audit(self, body: Mapping[str, object]) -> Mapping[str, object]:
        self.asked.append(body)
        return self.answer

    async def report(self, body: Mapping[str, object]) -> Mapping[str, object]:
        self.asked.append(body)
        if body.get("window") == 9:
            raise UsageError("nothing to report: window 9 is honest")
        return {"submitted": "ab" * 32, "text": "reported window 0"}

    async def execute(self, *args: str) -> int:
        return await trio.to_thread.run_sync(run, [*args, "--home", str(self.home)])


@asynccontextmanager
async def a_node(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeNode]:
    import os

    case = a_case()
    case.up_to_reveal()
    node = FakeNode(home, case)
    monkeypatch.setattr("swarm.ledger.reader.read_state", lambda _: case.ledger.state)
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_web,
            node.document,
            lambda: trio.open_memory_channel[str](1)[1],
            port=0,
            token="t",
            actions={"audit": node.audit, "report": node.report},
        )
        write_address(home, await nursery.start(serve), os.getpid())
        with trio.fail_after(20):
            yield node
        nursery.cancel_scope.cancel()


async def test_the_newest_revealed_segment_is_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node chooses the windows; for people three lines, for programs fixed keys."""
    async with a_node(tmp_path, monkeypatch) as node:
        assert await node.execute("audit") == 0
        assert node.asked == [{"round": 1, "stage": 0, "seat": 1}]
        out = capsys.readouterr().out
        assert out.startswith("claim   ")
        assert out.endswith("verdict HONEST\n")
        assert await node.execute("audit", "--round", "1", "--window", "0", "--json") == 0
        assert node.asked[-1]["window"] == 0
        assert list(json.loads(capsys.readouterr().out)) == KEYS


async def test_fraud_has_an_exit_code_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """6, with the verdict on stdout and the next command in it."""
    async with a_node(tmp_path, monkeypatch) as node:
        node.answer = FRAUD
        assert await node.execute("audit") == 6
        assert "verdict FRAUD -> swarm report /h/e.swarm" in capsys.readouterr().out
        assert await node.execute("audit", "--json") == 6
        assert json.loads(capsys.readouterr().out)["verdict"] == "fraud"


@pytest.mark.parametrize(
    ("answer", "args", "code", "cause"),
    [
        ({"verdict": "not_served", "text": ["x is gone"]}, [], 3, "x is gone"),
        ({"verdict": "not_revealed"}, [], 2, "is not revealed yet"),
        ({}, ["--run", "other"], 2, "this node follows run"),
        ({}, ["--round", "39"], 2, "is not committed yet"),
        ({}, ["--stage", "7"], 2, "there is no stage 7"),
    ],
)
async def test_no_verdict_is_one_sentence_and_nothing_on_stdout(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: Mapping[str, object],
    args: list[str],
    code: int,
    cause: str,
) -> None:
    """With the command that helps."""
    async with a_node(tmp_path, monkeypatch) as node:
        node.answer = answer
        assert await node.execute("audit", *args) == code
        out = capsys.readouterr()
        assert out.out == ""
        assert cause in out.err
        assert "\n  try: swarm " in out.err


async def test_without_a_stake_a_node_audits_and_does_not_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told that solvers show it a few logs only; a report needs a stake, and how to get one is named."""
    async with a_node(tmp_path, monkeypatch) as node:
        node.stake = 0
        assert await node.execute("audit") == 0
        assert len(node.asked) == 1
        assert "without a stake solvers show a few logs an hour" in capsys.readouterr().err
        assert await node.execute("report", "--round=1", "--stage=0", "--seat=1", "--window=0") == 2
        assert len(node.asked) == 1
        printed = capsys.readouterr().err
        assert "this node has no stake" in printed
        assert "put stake = N into node.toml" in printed


async def test_a_small_stake_audits_and_does_not_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger would refuse the report: the command says what is missing first."""
    window = ["--round=1", "--stage=0", "--seat=1", "--window=0"]
    async with a_node(tmp_path, monkeypatch) as node:
        node.stake = SOLVER_STAKE - 1
        assert await node.execute("report", *window) == 2
        assert node.asked == []
        assert "719 at stake of 720: a reporter has the stake" in capsys.readouterr().err
        assert await node.execute("audit") == 0


async def test_a_report_goes_by_file_or_by_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by both, and a refusal keeps its sentence."""
    (tmp_path / "e.swarm").write_bytes(b"x")
    segment = ["--round=1", "--stage=0", "--seat=1"]
    async with a_node(tmp_path, monkeypatch) as node:
        assert await node.execute("report", str(tmp_path / "e.swarm")) == 0
        assert node.asked == [{"evidence": str(tmp_path / "e.swarm")}]
        assert "reported window 0" in capsys.readouterr().out
        assert await node.execute("report", *segment, "--window=0", "--json") == 0
        assert list(json.loads(capsys.readouterr().out)) == ["submitted", "text"]
        assert await node.execute("report", *segment, "--window=9") == 2
        assert "window 9 is honest" in capsys.readouterr().err
        assert await node.execute("report", str(tmp_path / "e.swarm"), "--round=1") == 2
        assert await node.execute("report", *segment) == 2
