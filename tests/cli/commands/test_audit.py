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
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import peer_text
from swarm.testing.ledger import make_genesis
from swarm.verify.evidence_file import write_evidence
from swarm.web.service import serve_web
from tests.cli.test_node_api import write_address
from tests.ledger.checking import Case, a_case
from tests.verify.evidence_world import LIE, World, a_world
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


@pytest.fixture
def world() -> World:
    """A ledger with a segment, trained outside of the loop of a test."""
    return a_world()


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


async def test_evidence_for_strangers_goes_to_the_file_that_was_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node writes it in the home, and the command moves it: whole, whatever the verdict is."""
    out, written = tmp_path / "out" / "e", tmp_path / "written"
    async with a_node(tmp_path, monkeypatch) as node:
        assert await node.execute("audit", "--evidence", str(out)) == 2
        assert "a folder that is not there" in capsys.readouterr().err
        assert not node.asked, "nothing is replayed for nothing"
        out.parent.mkdir()
        assert await node.execute("audit", "--evidence", str(tmp_path)) == 2
        for answer, code in (
            (FRAUD, 6),
            ({"verdict": "honest", "window": 0}, 0),
            ({"verdict": "not_revealed"}, 2),
        ):
            written.write_bytes(b"all of it")
            node.answer = {**answer, "evidence": str(written)}
            assert await node.execute("audit", "--evidence", str(out)) == code
            assert node.asked[-1]["bundle"] is True
            printed = capsys.readouterr()
            assert f"swarm verify-evidence {out}" in printed.err
            assert f"swarm report {out}" in printed.out or code != 6
            assert out.read_bytes() == b"all of it"
            assert not written.exists()
            assert [path.name for path in out.parent.iterdir()] == ["e"]
            out.unlink()
        node.answer = {"verdict": "not_served", "evidence": None}
        assert await node.execute("audit", "--evidence", str(out)) == 3
        assert not out.exists()


async def test_a_strangers_evidence_is_replayed_before_a_bond_is_risked(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    world: World,
) -> None:
    """What shows no fraud, comes too late or is of another network goes to no node."""
    lie, honest = tmp_path / "lie", tmp_path / "honest"
    write_evidence(honest, world.shown(world.record()))
    write_evidence(lie, world.shown(world.lying()))
    async with a_node(tmp_path, monkeypatch) as node:
        (tmp_path / "genesis.bin").write_bytes(encode(world.ledger.genesis))
        monkeypatch.setattr("swarm.ledger.reader.read_state", lambda _: world.state)
        assert await node.execute("report", str(honest)) == 2
        assert "shows no fraud" in capsys.readouterr().err
        assert await node.execute("report", str(lie)) == 0
        assert node.asked == [{"evidence": str(lie)}]
        record = replace(world.lying(), judged=(LIE,))
        world.commit(record)
        assert await node.execute("report", str(lie)) == 2
        assert f"comes too late: window {LIE} was judged already" in capsys.readouterr().err
        bad = tmp_path / "bad"
        bad.write_bytes(lie.read_bytes()[:-5])
        assert await node.execute("report", str(bad)) == 6
        (tmp_path / "genesis.bin").write_bytes(encode(make_genesis(5, 2)))
        assert await node.execute("report", str(lie)) == 6
        assert "is of network" in capsys.readouterr().err
        assert len(node.asked) == 1
