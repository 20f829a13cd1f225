"""Payouts outside from the command line: the whole way, and every way on which it can stop."""

import json
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from swarm.cli.commands import settlement
from swarm.errors import Unreachable
from swarm.host.identity import load_identity
from swarm.ledger.net.archive import Archive
from swarm.ledger.settle.rpc import HttpEngine
from swarm.ledger.settlement_statements import SettlementKey, SignPayouts, Withdraw
from swarm.node.start import save_genesis
from swarm.store import STORE_FILE, Store
from swarm.testing.evm import TestEngine
from swarm.testing.ledger import InMemoryLedger
from swarm.types import Amount

RunCli = Callable[..., tuple[int, str, str]]
EPOCH = 10
OWN = "0x" + "a1" * 20


class Home:
    """A home whose peer is the one validator of a ledger, with a node that puts statements into blocks."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.ledger = InMemoryLedger(4, 1, epoch_blocks=EPOCH)
        self.peer = self.ledger.state.validators[0].peer
        self.key = self.ledger.key_of(self.peer)
        self.engine: Any = None
        self.show()
        monkeypatch.setattr(settlement, "own_peer", lambda _: self.peer)
        monkeypatch.setattr(settlement, "ask_own_node", self.ask_node)
        monkeypatch.setattr(settlement, "engine_at", lambda url: self.engine or HttpEngine(url))

    def show(self) -> None:
        """Write the ledger to the disk, where commands read it."""
        store_file = self.folder / STORE_FILE
        self.folder.mkdir(exist_ok=True)
        store_file.unlink(missing_ok=True)
        save_genesis(self.folder, self.ledger.genesis)

        async def fill() -> None:
            store = Store.open(store_file)
            archive = Archive.open(store, self.ledger.genesis)
            for block, certificate in self.ledger.links:
                await archive.append([block], certificate, known={})
            store.close()

        trio.run(fill)

    def ask_node(self, _: object, action: str, body: Mapping[str, Any]) -> dict[str, object]:
        if action == "wallet-withdraw":
            said: Any = Withdraw(Amount(body["amount"]), bytes.fromhex(body["to"][2:]))
        elif action == "settlement-register":
            address, proof, contract = (
                bytes.fromhex(body[name]) for name in ("address", "proof", "contract")
            )
            said = SettlementKey(address, proof, body["evm_chain"], contract)
        else:
            said = SignPayouts(body["epoch"], bytes.fromhex(body["signature"]))
        self.ledger.block(self.ledger.sign(self.key, said))
        self.show()
        return {"height": self.ledger.state.height, "text": action}

    def end_epoch(self) -> None:
        self.ledger.empty_blocks(EPOCH - 1 - self.ledger.state.height % EPOCH or EPOCH)
        self.show()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    (tmp_path / "key").write_text("0x" + TestEngine.secret(0).hex() + "\n", "utf-8")
    (tmp_path / "key").chmod(0o600)
    return Home(tmp_path / "home", monkeypatch)


@pytest.fixture
def chain(home: Home) -> TestEngine:
    pytest.importorskip("eth_account", reason="needs: pip install 'swarm-train[evm]'")
    pytest.importorskip("eth_tester", reason="needs: pip install 'swarm-train[dev]'")
    home.engine = TestEngine()
    engine: TestEngine = home.engine
    return engine


RPC = ("--rpc", "http://127.0.0.1:8545", "--key", "key")
JSON = ("--json",)


def test_from_the_key_of_a_validator_to_ether_at_an_address(
    home: Home, chain: TestEngine, run_cli: RunCli
) -> None:
    def ok(*args: str) -> Any:  # noqa: ANN401  JSON
        code, out, err = run_cli(*args, "--json", "--yes")
        assert code == 0, err
        return json.loads(out)

    def stops(*args: str) -> tuple[int, str]:
        code, _, err = run_cli(*args, "--json", "--yes")
        assert code != 0
        return code, str(json.loads(err)["error"])

    terms = ("--unit-wei", "1000", "--window", "3600", "--bond-wei", "77")
    assert stops("settlement", "deploy", *RPC, *terms)[0] == 2, "nobody has registered a key"
    ok("settlement", "register", "--key", "key")
    made = ok("settlement", "deploy", *RPC, *terms)
    assert made["gas"] < 1_500_000
    agree = ("settlement", "register", *RPC, "--contract", made["contract"])
    ok(*agree)
    code, why = stops("settlement", "deploy", *RPC, *terms)
    assert (code, why) == (2, "this network has its contract")
    shown = ok("settlement", "show")
    assert (shown["contract"], shown["payouts"], shown["locked"]) == (made["contract"], 0, 0)
    code, why = stops("ledger", "settle", *RPC)
    assert (code, why) == (1, "no epoch has ended with payouts yet")

    ok("wallet", "withdraw", "500", "--to", OWN)
    home.end_epoch()
    code, why = stops("ledger", "settle", *RPC)
    assert code == 6
    assert why.startswith("not enough signatures: 0% of the power has signed")
    assert ok("settlement", "sign", "--key", "key")["epochs"] == [0]
    assert ok("settlement", "sign", "--key", "key")["epochs"] == []
    posted = ok("ledger", "settle", *RPC)
    assert (posted["epoch"], posted["payouts"], posted["signed_percent"]) == (0, 1, 100)
    assert posted["broken_signatures"] == []
    code, why = stops("ledger", "settle", *RPC)
    assert (code, why) == (1, "the newest payouts are posted")
    claim = ("wallet", "claim", *RPC, "--to", OWN)
    code, why = stops(*claim)
    assert code == 1
    assert "can be proved wrong for" in why
    outside = ok("settlement", "show", "--rpc", "http://127.0.0.1:8545")
    assert outside["unproved_keys"] == []
    (slot,) = outside["on_chain"]["slots"]
    assert (slot["epoch"], slot["has_bond"]) == (0, True)
    chain.pass_time(3_601)
    code, why = stops(*claim)
    assert (code, why) == (1, "the contract has 0 wei where 500000 are due")
    wallet, _ = settlement.open_wallet("http://127.0.0.1:8545", "key", 100)
    wallet.send(bytes.fromhex(made["contract"][2:]), b"", 500_000)
    paid = ok(*claim)
    assert (paid["units"], paid["wei"]) == (500, 500_000)
    assert int(chain.ask("eth_getBalance", OWN, "latest"), 16) == 500_000
    code, why = stops(*claim)
    assert (code, why) == (1, f"all 500 units withdrawn to {OWN} are claimed")
    assert ok("ledger", "settle", *RPC)["bonds_back"] == [0]
    code, why = stops("settlement", "challenge", *RPC)
    assert (code, why) == (1, "all roots are this ledger's")
    code, out, _ = run_cli("settlement", "show", "--rpc", "http://127.0.0.1:8545")
    assert code == 0
    assert "slot 0    epoch 0: can be claimed from\n" in out


def test_a_contract_of_another_network_is_not_agreed_to(
    home: Home, chain: TestEngine, run_cli: RunCli
) -> None:
    run_cli("settlement", "register", "--key", "key")
    _, out, _ = run_cli("settlement", "deploy", *RPC, "--unit-wei", "1", *JSON, "--yes")
    contract = json.loads(out)["contract"]
    home.ledger = InMemoryLedger(5, 1, epoch_blocks=EPOCH)
    home.show()
    code, _, err = run_cli("settlement", "register", *RPC, "--contract", contract)
    assert code == 6
    assert "of another network" in err
    code, _, err = run_cli("settlement", "register", *RPC, "--contract", OWN)
    assert code == 6
    assert "is not the settlement contract" in err
    code, _, err = run_cli("settlement", "register", "--key", "key", "--contract", contract)
    assert code == 2
    assert "--rpc URL" in err


@pytest.mark.parametrize(
    "command",
    [
        ("ledger", "settle", *RPC),
        ("wallet", "claim", *RPC),
        ("settlement", "challenge", *RPC),
        ("settlement", "show", "--rpc", "http://127.0.0.1:1"),
        ("settlement", "sign", "--key", "key"),
    ],
)
def test_a_network_that_settles_on_no_contract_says_so(
    home: Home, chain: TestEngine, run_cli: RunCli, command: tuple[str, ...]
) -> None:
    code, _, err = run_cli(*command)
    assert code == 2
    assert "this network settles on no contract" in err
    assert "swarm settlement show" in err
    code, out, _ = run_cli("settlement", "show")
    assert code == 0
    assert "settles on no contract" in out


def test_without_the_extra_the_command_says_what_to_install(
    home: Home, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swarm.ledger.settle import contract

    contract._library.cache_clear()
    monkeypatch.setitem(sys.modules, "eth_account", None)
    code, _, err = run_cli("settlement", "register", "--key", "key", "--json")
    contract._library.cache_clear()
    said = json.loads(err)
    assert code == said["exit_code"] == 2
    assert said["error"] == "settlement needs packages that are not installed"
    assert said["hint"] == "pip install 'swarm-train[evm]'"


def test_an_engine_that_is_not_there_or_of_another_chain_is_told(
    home: Home, chain: TestEngine, run_cli: RunCli
) -> None:
    key = SettlementKey(bytes([1]) * 20, bytes(65), 5, bytes([2]) * 20)
    home.ledger.block(home.ledger.sign(home.key, key))
    home.show()
    code, _, err = run_cli("wallet", "claim", *RPC)
    assert code == 2
    assert "the contract is on chain 5" in err
    home.engine = None
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    code, _, err = run_cli("ledger", "settle", "--rpc", f"http://127.0.0.1:{port}", "--key", "key")
    assert code == 3
    assert "no engine answers at 127.0.0.1" in err
    code, _, err = run_cli("ledger", "settle", "--rpc", "localhost", "--key", "key")
    assert code == 2


def test_a_key_that_is_missing_open_to_others_or_none_is_refused(
    home: Home, chain: TestEngine, run_cli: RunCli, tmp_path: Path
) -> None:
    sign = ("settlement", "register", "--key")
    assert run_cli(*sign, "nowhere")[0] == 4
    (tmp_path / "key").chmod(0o644)
    code, _, err = run_cli(*sign, "key")
    assert code == 5
    assert "chmod 600 key" in err
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "key").write_text("not a key", "utf-8")
    code, _, err = run_cli(*sign, "key")
    assert code == 2
    assert "64 hexadecimal digits" in err
    assert "not a key" not in err


def test_a_withdrawal_asks_first_and_wants_an_address(home: Home, run_cli: RunCli) -> None:
    code, _, err = run_cli("wallet", "withdraw", "5", "--to", OWN)
    assert code == 2
    assert f"swarm wallet withdraw 5 --to {OWN} --yes" in err
    code, _, err = run_cli("wallet", "withdraw", "5", "--to", "0x12", "--yes")
    assert code == 2
    assert "is not 0x and 40 hexadecimal digits" in err


def test_a_key_that_is_not_the_registered_one_signs_nothing(
    home: Home, chain: TestEngine, run_cli: RunCli
) -> None:
    key = SettlementKey(bytes([1]) * 20, bytes(65), 5, bytes([2]) * 20)
    home.ledger.block(home.ledger.sign(home.key, key))
    home.show()
    code, _, err = run_cli("settlement", "sign", "--key", "key")
    assert code == 2
    assert "not the one that this validator has registered" in err


def test_a_signer_that_watches_outlives_its_node(
    home: Home, chain: TestEngine, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli("settlement", "register", "--key", "key")
    signer = settlement.read_key("key")
    key = SettlementKey(signer.address, bytes(65), 5, bytes([2]) * 20)
    home.ledger.block(home.ledger.sign(home.key, key))
    home.end_epoch()
    answers = [False, True]

    def ask_node(screen: object, action: str, body: Mapping[str, Any]) -> dict[str, object]:
        if not answers.pop(0):
            raise Unreachable("no node is running")
        return home.ask_node(screen, action, body)

    def sleep(_: float) -> None:
        if not answers:
            raise KeyboardInterrupt

    monkeypatch.setattr(settlement, "ask_own_node", ask_node)
    monkeypatch.setattr("time.sleep", sleep)
    code, out, err = run_cli("settlement", "sign", "--key", "key", "--watch")
    assert code == 130
    assert "no node is running; trying again" in err
    assert out == "signed the payouts of epochs: 0\n"


def test_the_peer_of_a_home_is_the_one_of_its_key(tmp_path: Path, run_cli: RunCli) -> None:
    from swarm.cli.options import GlobalOptions
    from swarm.cli.terminal import Terminal

    screen = Terminal(GlobalOptions(home=str(tmp_path / "other")))
    assert settlement.own_peer(screen) == load_identity(screen.home).peer
