"""The runs and the market of a network, from the disk of a home in which no node runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from swarm.ledger.net.archive import Archive
from swarm.node.start import save_genesis
from swarm.primitives.crypto import peer_name
from swarm.store import STORE_FILE, Store
from swarm.testing.ledger import InMemoryLedger, small_run_spec

RunCli = Callable[..., tuple[int, str, str]]


def a_home(tmp_path: Path, *, opens: bool = True) -> None:
    """Write a ledger with two runs into the home of ``run_cli``."""
    ledger, home = InMemoryLedger(), tmp_path / "home"
    if opens:
        ledger.open_run(small_run_spec(rounds=4))
        ledger.open_run(small_run_spec(name="second", rounds=40))
        ledger.empty_blocks(35)
    home.mkdir()
    save_genesis(home, ledger.genesis)

    async def fill() -> None:
        store = Store.open(home / STORE_FILE)
        archive = Archive.open(store, ledger.genesis)
        for block, certificate in ledger.links:
            await archive.append([block], certificate, known={})
        store.close()

    trio.run(fill)


def test_all_runs_of_the_network_are_listed_settled_ones_too(
    run_cli: RunCli, tmp_path: Path
) -> None:
    a_home(tmp_path)
    code, out, _ = run_cli("run", "ls")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["1", "rehearsal", "settled"],
        ["2", "second", "training"],
    ]
    code, out, _ = run_cli("run", "ls", "--json")
    rows = json.loads(out)
    assert [(row["name"], row["price"], row["seats_max"]) for row in rows] == [
        ("rehearsal", 1, 6),
        ("second", 1, 6),
    ]


def test_the_market_shows_open_runs_only(run_cli: RunCli, tmp_path: Path) -> None:
    a_home(tmp_path)
    code, out, _ = run_cli("market")
    assert (code, [line.split()[:3] for line in out.splitlines()[1:]]) == (
        0,
        [["2", "second", "training"]],
    )
    (row,) = json.loads(run_cli("market", "--json")[1])
    assert (row["price"], row["asks_waiting"], row["free_seats"]) == (1, [], [2, 2])


def test_a_network_without_an_open_run_says_so(run_cli: RunCli, tmp_path: Path) -> None:
    a_home(tmp_path, opens=False)
    assert run_cli("market") == (0, "no run of this network is open\n", "")
    assert json.loads(run_cli("market", "--json")[1]) == []
    assert run_cli("run", "ls")[1] == "no run yet\n"


@pytest.mark.parametrize("args", [("market",), ("run", "ls")])
def test_a_home_without_a_network_is_told_how_to_get_one(
    run_cli: RunCli, args: tuple[str, ...]
) -> None:
    code, _, err = run_cli(*args)
    assert (code, "swarm join TICKET" in err) == (2, True)


def test_an_ask_takes_a_running_node_and_is_a_price(run_cli: RunCli, tmp_path: Path) -> None:
    a_home(tmp_path, opens=False)
    assert run_cli("ask", "9")[0] == 3, "no node runs here"
    assert run_cli("ask", "-1")[0] == 2
    code, _, err = run_cli("serve", "--ask", str(1 << 30))
    assert (code, "swarm market" in err) == (2, True)


@pytest.mark.rule("L75")
def test_shares_and_records_are_read_from_the_disk(run_cli: RunCli, tmp_path: Path) -> None:
    a_home(tmp_path)
    owner = peer_name(InMemoryLedger().keys[0].peer)
    assert run_cli("run", "shares", "second")[1] == "nothing of run second was verified yet\n"
    row = json.loads(run_cli("run", "shares", "1", "--json")[1])
    assert row == {"run": 1, "name": "rehearsal", "total": 0, "holders": []}
    code, out, _ = run_cli("peers", "record", owner)
    assert (code, out.splitlines()[0].startswith(owner)) == (0, True)
    assert "2 second" in out
    row = json.loads(run_cli("peers", "record", owner, "--json")[1])
    assert [run["run"] for run in row["runs"]] == [2], "it did nothing in the first"
    assert run_cli("run", "shares", "third")[0] == 2


def test_to_go_on_with_a_run_takes_a_node_and_money_a_yes(run_cli: RunCli, tmp_path: Path) -> None:
    a_home(tmp_path)
    assert run_cli("run", "continue", "1")[0] == 3, "no node runs here"
    code, _, err = run_cli("run", "continue", "1", "--escrow", "500", "--json")
    assert (code, "--escrow 500 --yes" in err) == (2, True)
    assert run_cli("run", "fund", "5")[0] == 3
    assert run_cli("run", "fund", "0")[0] == 2
