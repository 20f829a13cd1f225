"""The read commands ask the node of the home folder, and say what is wrong when it cannot answer."""

import json
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from swarm.cli.client import act, fetch_state, find_node, node_of
from swarm.cli.main import run
from swarm.cli.state_reader import read_state
from swarm.errors import BadConfig, Unreachable
from swarm.ticket import Ticket, format_ticket
from swarm.types import PeerId
from swarm.web.service import serve_web
from tests.web.snapshots import a_snapshot

TICKET = format_ticket(
    Ticket(bytes(16), bytes(16), PeerId(b"\1" * 32), ("/ip4/127.0.0.1/tcp/1",), 0)
)


def write_address(home: Path, url: str, pid: int, token: str = "t") -> None:
    (home / "api.json").write_text(json.dumps({"url": url, "token": token, "pid": pid}))


async def refuse(body: Mapping[str, object]) -> Mapping[str, object]:
    raise BadConfig("no room on the disk", hint="df -h")


async def a_ticket(body: Mapping[str, object]) -> Mapping[str, object]:
    return {"ticket": TICKET}


async def a_stop(body: Mapping[str, object]) -> Mapping[str, object]:
    return {"text": "it ends"}


@asynccontextmanager
async def a_node(home: Path) -> AsyncIterator[None]:
    def no_lines() -> trio.MemoryReceiveChannel[str]:
        return trio.open_memory_channel[str](1)[1]

    document = a_snapshot()
    document["run"] = {**document["run"], "ticket": None}  # type: ignore[dict-item]
    async with trio.open_nursery() as nursery:
        url = await nursery.start(
            partial(
                serve_web,
                lambda: read_state(document),
                no_lines,
                port=0,
                token="t",
                actions={"refuse": refuse, "ticket": a_ticket, "stop": a_stop},
            )
        )
        write_address(home, url, os.getpid())
        with trio.fail_after(20):
            yield
        nursery.cancel_scope.cancel()


@pytest.mark.rule("C1")
@pytest.mark.parametrize(
    ("args", "seen"),
    [
        (["status"], "pydocs-demo"),
        (["map"], "glad-raven-113"),
        (["peers", "ls"], "icy-newt-042"),
        (["peers", "show", "icy"], "slow: 2 rounds behind"),
        (["run", "show"], "last commit"),
        (["ticket", "new"], TICKET),
    ],
)
async def test_every_read_command_has_words_and_json(
    args: list[str], seen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command, for people and for programs."""
    async with a_node(tmp_path):
        home = ["--home", str(tmp_path)]
        assert await trio.to_thread.run_sync(run, [*args, *home]) == 0
        assert seen in capsys.readouterr().out
        assert await trio.to_thread.run_sync(run, [*args, *home, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)


async def test_a_ticket_that_only_this_machine_can_use_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Aloud, beside the data."""
    async with a_node(tmp_path):
        args = ["ticket", "new", "--home", str(tmp_path)]
        assert await trio.to_thread.run_sync(run, args) == 0
    out = capsys.readouterr()
    assert out.out.strip() == TICKET
    assert "only this machine can use this ticket: its address is 127.0.0.1" in out.err


@pytest.mark.rule("C9")
async def test_stop_asks_and_ends_nothing_without_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the run, and the command that needs no answer, for people and for programs."""
    async with a_node(tmp_path):
        for more in ([], ["--json"]):
            args = ["stop", "--home", str(tmp_path), *more]
            assert await trio.to_thread.run_sync(run, args) == 2
            out = capsys.readouterr()
            assert out.out == ""
            assert "End run pydocs-demo for all its peers?" in out.err
            assert "swarm stop --yes" in out.err
        assert await trio.to_thread.run_sync(run, ["stop", "--yes", "--home", str(tmp_path)]) == 0
        assert "it ends" in capsys.readouterr().out


async def test_a_refusal_keeps_its_kind_and_hint(tmp_path: Path) -> None:
    """What the node raised is raised here."""
    async with a_node(tmp_path):
        address = node_of(tmp_path)
        with pytest.raises(BadConfig, match="no room") as caught:
            await trio.to_thread.run_sync(act, address, "refuse", {})
        assert caught.value.hint == "df -h"
        assert (await trio.to_thread.run_sync(fetch_state, address)).events


def test_a_node_that_died_is_not_asked(tmp_path: Path) -> None:
    """The address it left names a process that is gone."""
    write_address(tmp_path, "http://127.0.0.1:1/", 2**22 + 1)
    assert find_node(tmp_path) is None
    with pytest.raises(Unreachable, match="no node is running") as caught:
        node_of(tmp_path)
    assert "swarm join TICKET" in caught.value.hint
    (tmp_path / "genesis.bin").touch()
    with pytest.raises(Unreachable) as caught:
        node_of(tmp_path)
    assert "swarm join, without a ticket, goes on" in caught.value.hint


def test_a_node_whose_page_is_gone_is_named(tmp_path: Path) -> None:
    """Nothing listens there: one sentence, and what to do."""
    write_address(tmp_path, "http://127.0.0.1:1/", os.getpid())
    with pytest.raises(Unreachable, match=f"pid {os.getpid()} has just ended") as caught:
        fetch_state(node_of(tmp_path))
    assert "Errno" not in str(caught.value)


def test_a_node_that_hangs_is_named(tmp_path: Path) -> None:
    """It listens, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write_address(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}/", os.getpid())
        with pytest.raises(Unreachable, match="does not answer") as caught:
            fetch_state(node_of(tmp_path), 0.2)
    assert f"kill {os.getpid()}" in caught.value.hint


@pytest.mark.parametrize(
    "junk", ["", "[]", "{}", '{"url": 1}', '{"url":"x","token":"t","pid":"y"}']
)
def test_a_broken_address_file_is_no_node(tmp_path: Path, junk: str) -> None:
    """As if it were not there."""
    (tmp_path / "api.json").write_text(junk)
    assert find_node(tmp_path) is None
