"""Founders make a genesis together, and each puts the same into its home."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from swarm.cli.commands import network
from swarm.errors import BadConfig, UsageError
from swarm.host.identity import load_identity
from swarm.ledger.state.state import genesis_state
from swarm.node.start import saved_genesis
from swarm.primitives.crypto import peer_text
from swarm.testing.ledger import numbered_key
from tests.ledger.checking import a_case

PEERS = [peer_text(numbered_key(number).peer) for number in range(5)]
TESTNET = Path(__file__).parents[3] / "configs" / "testnet.toml"
RunCli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_cli(run_cli: RunCli) -> RunCli:
    """Run ``swarm network`` in a home of its own."""
    return partial(run_cli, "network")


@pytest.mark.parametrize(
    "text", [f"{PEERS[0]}:0", f"{PEERS[0]}:-1", f"{PEERS[0]}:x", "nobody:5", ""]
)
def test_what_is_no_peer_with_an_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        network.parse_amount(text, None)


def test_a_founder_without_a_stake_has_the_usual_one() -> None:
    peer = numbered_key(0).peer
    assert network.parse_amount(PEERS[0], 7) == (peer, 7)
    assert network.parse_amount(f"{PEERS[0]}:12", 7) == (peer, 12)
    with pytest.raises(UsageError):
        network.parse_amount(PEERS[0], None)


def test_four_founders_make_a_network_and_put_it_into_their_homes(
    run_cli: RunCli, tmp_path: Path
) -> None:
    me = peer_text(load_identity(tmp_path / "home").peer)
    founders = [part for peer in [*PEERS[:3], f"{me}:500000"] for part in ("--validator", peer)]
    rich = ("--settings", str(TESTNET), "--account", f"{PEERS[4]}:77")
    code, out, _ = run_cli("new", "testnet.bin", *rich, *founders, "--json")
    made = json.loads(out)
    assert (code, len(made["validators"]), made["epoch_blocks"]) == (0, 4, 720)
    assert json.loads(run_cli("show", "testnet.bin", "--json")[1]) == made
    genesis = network.read_genesis_file(tmp_path / "testnet.bin")
    state = genesis_state(genesis)
    assert len(state.validators) == 4
    assert state.account(numbered_key(4).peer).balance == 77
    used = json.loads(run_cli("use", "testnet.bin", "--json")[1])
    assert used["is_founder"]
    assert (tmp_path / "home" / "node.toml").read_text() == "validate = true\n"
    held = saved_genesis(tmp_path / "home")
    assert held is not None
    assert held.chain == genesis.chain
    assert run_cli("use", "testnet.bin")[0] == 0, "again changes nothing"
    assert json.loads(run_cli("show", "--json")[1]) == made


def test_a_home_stays_in_its_network_and_a_file_is_not_overwritten(run_cli: RunCli) -> None:
    assert run_cli("show")[0] == 2, "this home belongs to none"
    for name in ("one", "two"):
        code, out, _ = run_cli("new", name, "--validator", PEERS[0])
        assert code == 0
        assert "fewer than four, so none of them may be gone" in out
    assert run_cli("use", "one")[0] == 0
    code, _, err = run_cli("use", "two")
    assert (code, "belongs to network" in err) == (2, True)
    code, _, err = run_cli("new", "one", "--validator", PEERS[0])
    assert (code, "is there already" in err) == (2, True)


@pytest.mark.parametrize("raw", [b"", b"junk", bytes(1 << 21)], ids=["empty", "junk", "long"])
def test_what_is_no_genesis_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    with pytest.raises(BadConfig, match="is no genesis"):
        network.read_genesis_file(path)
    with pytest.raises(UsageError, match="cannot be read"):
        network.read_genesis_file(tmp_path / "nothing")


@pytest.mark.rule("L87")
def test_a_home_makes_the_genesis_of_its_network_begun_anew(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_case()
    monkeypatch.setattr("swarm.ledger.reader.read_state", lambda _home: case.ledger.state)
    monkeypatch.setattr(network, "_of_home", lambda _home: case.ledger.genesis)
    named = [part for peer in PEERS[:3] for part in ("--validator", peer)]
    code, out, _ = run_cli("restart", "anew.bin", *named, "--json")
    made = json.loads(out)
    assert (code, made["height"], made["may_fork"]) == (0, case.ledger.state.height, False)
    genesis = network.read_genesis_file(tmp_path / "anew.bin")
    assert made["network"] == genesis.chain.hex() != made["old_network"]
    assert run_cli("restart", "anew.bin", *named)[0] == 2, "it is there already"
    code, _, said = run_cli("restart", "other.bin", "--validator", PEERS[0])
    assert code == 0
    assert "the old network goes on beside the new one" in said
    assert run_cli("restart", "third.bin", "--validator", PEERS[4])[0] == 2, "it has no stake"
