"""``open_node`` gives one error for what went wrong, and a node that misses nothing that happens."""

from pathlib import Path

import pytest
import trio
import trio.testing

import swarm
from swarm.errors import BadConfig, BadIdentity, UsageError
from swarm.events import Event, EventKind
from swarm.host.identity import lock_home
from swarm.node.reporting import EVENTS_KEPT, RECENT_MAX, EventLog

RUN_FILE = Path(__file__).parents[2] / "examples" / "tiny.toml"
CONFIG = swarm.NodeConfig(listen=("127.0.0.1:0",), api_port=0, solve=False)
WAIT_S = 60.0

Start = swarm.Join | swarm.Launch | swarm.Resume


async def open_and_close(home: Path, start: Start) -> None:
    async with swarm.open_node(CONFIG, home=home, start=start):
        raise AssertionError("the node started")


async def test_a_home_without_a_network_has_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has not joined a network yet") as caught:
        await open_and_close(tmp_path, swarm.Resume())
    assert "swarm join TICKET" in caught.value.hint


async def test_a_home_in_use_is_refused(tmp_path: Path) -> None:
    with lock_home(tmp_path), pytest.raises(BadIdentity, match="already in use"):
        await open_and_close(tmp_path, swarm.Resume())


async def test_a_run_without_text_is_refused(tmp_path: Path) -> None:
    file = swarm.Launch(RUN_FILE).file
    data = file.data.model_copy(update={"source": ("nowhere",)})
    launch = swarm.Launch(file.model_copy(update={"data": data}), base=tmp_path)
    with pytest.raises(BadConfig, match="nowhere"):
        await open_and_close(tmp_path / "home", launch)


async def test_a_bad_node_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('lisen = ["0.0.0.0:0"]')
    with pytest.raises(BadConfig, match='did you mean "listen"'):
        async with swarm.open_node(home=tmp_path):
            raise AssertionError("the node started")


async def test_a_node_tells_what_happens_and_its_home_can_be_resumed(tmp_path: Path) -> None:
    heard = list[Event]()

    async def use_and_fail() -> None:
        launch = swarm.Launch(RUN_FILE)
        async with swarm.open_node(
            CONFIG, home=tmp_path, start=launch, on_event=heard.append
        ) as node:
            run = await node.wait_run()
            assert (run.spec.name, node.run is not None) == ("tiny", True)
            assert await node.wait_for("run_joined") in heard
            with pytest.raises(UsageError, match="no event is called") as caught:
                await node.wait_for("run_joind")
            assert "run_joined" in caught.value.hint
            blocks = node.blocks(first=1)
            assert [(await anext(blocks)).height for _ in range(2)] == [1, 2]
            assert swarm.Join(node.ticket()).ticket.peer == node.key
            assert not node.peer_map().others
            assert node.name in heard[0].text
            raise ZeroDivisionError

    with trio.fail_after(WAIT_S):
        with pytest.raises(ZeroDivisionError):  # as it was raised, in no group
            await use_and_fail()
        async with swarm.open_node(CONFIG, home=tmp_path) as again:
            assert (await again.wait_run()).spec.name == "tiny"
            assert again.ledger.height >= 2

    with swarm.open_ledger(tmp_path) as ledger:
        report = ledger.verify()
        assert report.chain.head.state.height + report.num_unproved == ledger.height
        assert [block.height for block in ledger.blocks(last=2)] == [1, 2]
        assert [one.spec.name for one in ledger.runs()] == ["tiny"]
        with pytest.raises(UsageError, match="no block"):
            ledger.block(ledger.height + 1)


def test_a_ledger_needs_a_home(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no node has run"), swarm.open_ledger(tmp_path):
        raise AssertionError("a ledger was opened")


async def test_a_reader_waits_for_the_next_event(tmp_path: Path) -> None:
    log, heard = EventLog(tmp_path), list[tuple[int, str]]()
    for number in range(3):
        log(EventKind.PROGRESS, f"event {number}")
    assert (await log.event_after(1))[1].text == "event 1"

    async def read() -> None:
        position, event = await log.event_after(3)
        heard.append((position, event.text))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert not heard
        log(EventKind.PROGRESS, "event 3")
    assert heard == [(4, "event 3")]


async def test_a_slow_reader_misses_the_oldest_events_and_the_map_has_the_newest(
    tmp_path: Path,
) -> None:
    log = EventLog(tmp_path)
    for number in range(EVENTS_KEPT + 5):
        log(EventKind.PROGRESS, f"event {number}")
    position, event = await log.event_after(0)
    assert (position, event.text) == (6, "event 5")
    assert [one.text for one in log.recent] == [
        f"event {number}" for number in range(log.total - RECENT_MAX, log.total)
    ]
