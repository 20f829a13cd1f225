"""What one home exports, anybody verifies; a file of another network, or a changed one, is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from swarm.cli.commands import doctor
from swarm.ledger.light import handoff_of
from swarm.ledger.net.archive import Archive, Boundary
from swarm.node.start import save_genesis
from swarm.store import STORE_FILE, Store
from swarm.testing.ledger import InMemoryLedger
from tests.cli.test_disks import mounted, needs_mounts, read_only, swarm

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


@needs_mounts
@pytest.mark.rule("C12", "C14")
def test_a_home_on_a_medium_that_cannot_be_written_is_verified_there(
    ledger: InMemoryLedger, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    before = sorted(path.name for path in home.iterdir())
    code, out, err = mounted(
        read_only(home), swarm("--json", "ledger", "verify", "--home", str(home))
    )
    assert (code, json.loads(out)["height"]) == (0, ledger.state.height), err
    out = mounted(read_only(home), swarm("doctor", "--json", "--home", str(home)))[1]
    found = {row["check"]: row for row in json.loads(out)["checks"]}
    assert found["home"]["text"] == f"{home} can be read and not written"
    assert sorted(path.name for path in home.iterdir()) == before
    assert doctor._ledger(home).text == f"its tip holds, block {ledger.state.height}"


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


@pytest.fixture
def pruned(tmp_path: Path) -> InMemoryLedger:
    """The ledger of a home in ``tmp_path`` that begins with a snapshot at height 19, with blocks up to 27."""
    ledger, home = InMemoryLedger(4, 4, epoch_blocks=10), tmp_path / "home"
    home.mkdir()
    save_genesis(home, ledger.genesis)
    ledger.empty_blocks(19)
    (block, certificate), state = ledger.links[-1], ledger.state
    ends = [link for link in ledger.links if link[0].header.height == 9]
    handoffs = [handoff_of(ends[0][0].header, ends[0][1], state.validators)]
    boundary = Boundary(handoff_of(block.header, certificate, state.validators), state)
    ledger.empty_blocks(8)

    async def fill() -> None:
        store = Store.open(home / STORE_FILE)
        archive = Archive.open(store, ledger.genesis)
        await archive.adopt(boundary, handoffs)
        for block, certificate in ledger.links[19:]:
            await archive.append([block], certificate, known={})
        store.close()

    trio.run(fill)
    return ledger


@pytest.mark.rule("L62")
def test_a_home_without_old_blocks_says_what_it_checked_and_from_where(
    pruned: InMemoryLedger, run_cli: RunCli
) -> None:
    code, out, _ = run_cli("verify")
    assert code == 0
    assert "blocks 20 to 27 of the network" in out
    said = (
        "the handoffs of 2 epochs (2 signed headers) and a snapshot at height 19, not from block 1"
    )
    assert f"checked from {said}" in out
    row = json.loads(run_cli("verify", "--json")[1])
    assert (row["began_at"], row["began_with"], row["height"]) == (19, said, 27)
    code, out, _ = run_cli("export", "chain.bin")
    assert code == 0
    assert "chain.bin: 8 final blocks" in out
    assert "not a full chain: this home has no blocks to verify before 20" in out
    code, out, _ = run_cli("verify", "chain.bin", home="nothing")
    assert code == 0
    assert f"checked from {said}" in out


@pytest.mark.rule("L62")
def test_a_pruned_block_is_named_as_such(pruned: InMemoryLedger, run_cli: RunCli) -> None:
    code, _, err = run_cli("show", "7")
    assert (code, "block 7 is pruned: this home keeps blocks from 20 on" in err) == (2, True)
    assert "archive = true" in err
    assert run_cli("show", "21")[0] == 0
    code, _, err = run_cli("show", "99")
    assert (code, "there is no block 99 here" in err) == (2, True)
    code, out, _ = run_cli("show")
    assert "first block kept  20" in out
    code, out, _ = run_cli("tail", "-n", "100")
    assert (code, out.count("#2")) == (0, 8)


@pytest.mark.rule("L64")
def test_who_trusts_an_epoch_verifies_from_there(pruned: InMemoryLedger, run_cli: RunCli) -> None:
    pair = json.loads(run_cli("handoffs", "--json")[1])["trusted_epoch"]
    assert pair == json.loads(run_cli("verify", "--json")[1])["trusted_epoch"]
    epoch, _, digest = pair.partition(":")
    assert epoch == "2"
    code, out, _ = run_cli("handoffs")
    assert f"for others to begin with: --trust {pair}" in out
    for number in ("0", "1", "2"):
        code, out, _ = run_cli("verify", "--trust", f"{number}:{digest}")
        assert code == 0, out
    assert "since epoch 1, which you trust" in run_cli("verify", "--trust", f"1:{digest}")[1]
    assert run_cli("export", "chain.bin")[0] == 0
    assert run_cli("verify", "chain.bin", "--trust", f"1:{digest}", home="nothing")[0] == 0
    for wrong, cause in ((f"2:{'ab' * 32}", "other validators"), (f"9:{digest}", "is later than")):
        for where in ([], ["chain.bin"]):
            code, _, err = run_cli("verify", *where, "--trust", wrong)
            assert (code, cause in err) == (6, True), err
    for text in ("7", "x:y", f"1:{'ab' * 31}", f"-1:{digest}", f"1{'0' * 20}:{digest}"):
        code, _, err = run_cli("verify", "--trust", text)
        assert (code, "--trust is EPOCH:DIGEST" in err) == (2, True)
