"""What one home exports, anybody verifies; a file of another network, or a changed one, is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from swarm.ledger.net.archive import Archive
from swarm.node.start import save_genesis
from swarm.store import STORE_FILE, Store
from swarm.testing.ledger import InMemoryLedger

RunCli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ledger(tmp_path: Path) -> InMemoryLedger:
    """The ledger of a home in ``tmp_path``, with four blocks."""
    ledger, home = InMemoryLedger(4, 4), tmp_path / "home"
    home.mkdir()
    save_genesis(home, ledger.genesis)
    ledger.empty_blocks(4)

    async def fill() -> None:
        store = Store.open(home / STORE_FILE)
        archive = Archive.open(store, ledger.genesis)
        for block, certificate in ledger.links:
            await archive.append([block], certificate, known={})
        store.close()

    trio.run(fill)
    return ledger


@pytest.fixture
def run_cli(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Run ``swarm ledger`` in a home."""

    def execute(*args: str, home: str = "home") -> tuple[int, str, str]:
        monkeypatch.setenv("SWARM_HOME", str(tmp_path / home))
        return run_cli("ledger", *args)

    return execute


def test_an_exported_ledger_is_verified_where_there_is_no_home(
    ledger: InMemoryLedger, run_cli: RunCli
) -> None:
    chain = ledger.genesis.chain.hex()
    code, out, _ = run_cli("export", "chain.bin")
    assert code == 0
    assert f"swarm ledger verify chain.bin --network {chain}" in out
    code, out, _ = run_cli("verify", "chain.bin", "--network", chain, "--json", home="nothing")
    row = json.loads(out)
    assert (code, row["height"], row["is_trusted"]) == (0, 4, True)
    assert row["state_root"] == ledger.state.root.hex()
    code, out, _ = run_cli("verify", "chain.bin", home="nothing")
    assert code == 0
    assert "whether this is the right network, you must know: --network HEX" in out
    code, out, _ = run_cli("verify", "chain.bin")
    assert code == 0
    assert "you must know" not in out, "it is the network of this home"


def test_another_network_a_damaged_file_and_a_second_export_are_refused(
    ledger: InMemoryLedger, run_cli: RunCli, tmp_path: Path
) -> None:
    assert run_cli("export", "chain.bin")[0] == 0
    code, _, err = run_cli("export", "chain.bin")
    assert (code, "exists already" in err) == (2, True)
    code, _, err = run_cli("verify", "chain.bin", "--network", "ab" * 32, home="nothing")
    assert code == 6
    assert f"not {'ab' * 8}" in err
    path = tmp_path / "chain.bin"
    path.write_bytes(path.read_bytes()[:-9])
    code, _, err = run_cli("verify", "chain.bin")
    assert (code, "is cut off" in err) == (6, True)
    assert run_cli("verify", "no file")[0] == 2
