"""A mistake costs one message, one hint and the right exit code; the home survives it.

The node runs in this process, so these take milliseconds to seconds; ``tests/e2e`` has the same from outside.
"""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.cli.main import run
from swarm.config.load import parse_run_file
from swarm.host.identity import load_identity, lock_home
from swarm.node.join.join import GENESIS_KEY, TABLE
from swarm.node.launch.launch import genesis_for
from swarm.node.start import save_genesis
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey
from swarm.store import STORE_FILE, Store
from swarm.ticket import Ticket, format_ticket
from swarm.types import PeerId

Failed = Callable[..., str]

FILE = """
[model]
hidden_size = 32
num_layers = 2
num_heads = 2
num_kv_heads = 2
intermediate_size = 64
seq_len = 32
[data]
source = ["nowhere.txt"]
"""
NODE = ("--listen", "127.0.0.1:0", "--api-port", "0", "--plain")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def failed(home: Path, capsys: pytest.CaptureFixture[str]) -> Failed:
    """Run a command line that must fail with this exit code; return its cause and its hint."""

    def execute(code: int, *args: str) -> str:
        assert run([*args, "--home", str(home)]) == code
        out = capsys.readouterr()
        printed = out.err[out.err.index("error: ") :].strip()
        assert printed.count("\n") == 1, printed
        assert printed.splitlines()[1].startswith("  try: "), printed
        assert "Traceback" not in out.err + out.out
        assert not list(home.glob("trace-*"))
        return printed

    return execute


def a_ticket(**changes: object) -> Ticket:
    ticket = Ticket(
        b"g" * 16,
        b"r" * 16,
        SecretKey.from_seed(b"\x05" * 32).peer,
        ("/ip4/127.0.0.1/tcp/9",),
        0,
    )
    return replace(ticket, **changes)


def a_run_file(tmp_path: Path, text: str = FILE) -> str:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return str(path)


def a_home_with_a_network(home: Path, tmp_path: Path, failed: Failed) -> None:
    """What an earlier launch left: a key, a genesis, and a database that knows it."""
    secret = load_identity(home)
    file = parse_run_file(FILE, "run.toml")
    genesis = genesis_for(file, home, secret)
    save_genesis(home, genesis)
    store = Store.open(home / STORE_FILE)
    store.put(TABLE, GENESIS_KEY, encode(genesis))
    store.close()
    assert "nowhere.txt cannot be read" in failed(4, "launch", a_run_file(tmp_path), *NODE)


def test_a_ticket_that_is_mistyped_wrong_or_expired(failed: Failed) -> None:
    good = format_ticket(a_ticket())
    wrong = good[:30] + ("2" if good[30] != "2" else "3") + good[31:]
    assert "near character 24" in failed(2, "join", wrong)
    assert "not a ticket" in failed(2, "join", "hello")
    assert "mistyped" in failed(2, "join", good[:-9])
    assert "expired" in failed(3, "join", format_ticket(a_ticket(expires=1_000_000)))


@pytest.mark.rule("S25")
def test_a_run_file_with_a_mistake(failed: Failed, tmp_path: Path) -> None:
    def launched(text: str) -> str:
        return failed(4, "launch", a_run_file(tmp_path, text), *NODE)

    assert 'did you mean "hidden_size"?' in launched("[model]\nhiden_size = 32\n")
    assert "not TOML" in launched("[model\n")
    assert "hidden_size" in launched("[model]\nhidden_size = 3\n")
    assert "No such file" in failed(4, "launch", str(tmp_path / "none.toml"))


@pytest.mark.rule("S25")
def test_a_node_file_with_a_mistake(failed: Failed, home: Path) -> None:
    home.mkdir()
    (home / "node.toml").write_text('listn = ["127.0.0.1:0"]\n')
    assert 'did you mean "listen"?' in failed(4, "join", format_ticket(a_ticket()), *NODE)


def test_a_run_whose_windows_the_disk_may_not_hold(
    failed: Failed, home: Path, tmp_path: Path
) -> None:
    """Said before the run is opened, with the setting that would do."""
    home.mkdir()
    (home / "node.toml").write_text("disk_quota_mb = 100\n")
    (tmp_path / "nowhere.txt").write_text("text " * 10_000)
    (tmp_path / "other.txt").write_text("more " * 10_000)
    text = FILE.replace('"nowhere.txt"', '"nowhere.txt", "other.txt"') + "heldout_every = 2\n"
    exact = '[run]\nnumerics = "seq-f32/1"\n[checks]\nwindow_steps = 1\n'
    printed = failed(4, "launch", a_run_file(tmp_path, exact + text), *NODE)
    assert "disk_quota_mb is 100" in printed
    assert "keeps 750 windows of 0.4 MB for 15 rounds" in printed
    assert "try: disk_quota_mb = " in printed


@pytest.mark.rule("N14")
def test_a_launch_that_fails_leaves_no_network_behind(
    failed: Failed, home: Path, tmp_path: Path
) -> None:
    """The text, the disk space, the page's port and the ledger's own rules come before the genesis."""
    (tmp_path / "text.txt").write_text("text " * 10_000)
    (tmp_path / "other.txt").write_text("more " * 10_000)
    good = FILE.replace('"nowhere.txt"', '"text.txt", "other.txt"') + "heldout_every = 2\n"
    many_replicas = "[training]\nreplicas_max = 256\n[ledger]\nepoch_blocks = 720\n"

    def launched(text: str, *args: str) -> str:
        return failed(4, "launch", a_run_file(tmp_path, text), *NODE, *args)

    assert "cannot be read" in launched(FILE)
    (tmp_path / "short.txt").write_text("text")
    assert "are needed to hold out" in launched(
        good.replace('"text.txt", "other.txt"', '"short.txt"')
    )
    assert "gamma" in launched("[outer]\nalpha = 0.5\ngamma = 1.9\n" + good)
    assert "no ledger takes this run" in launched(many_replicas + good)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        args = ("launch", a_run_file(tmp_path, good), *NODE[:2], "--api-port", port, "--plain")
        assert f"port {port}" in failed(2, *args)
    assert not (home / "genesis.bin").exists()
    assert not list((home / "blobs").iterdir()), "the text of a run that was refused is not kept"
    assert not (home / "ticket.txt").exists()
    store = Store.open(home / STORE_FILE)
    assert store.get(TABLE, GENESIS_KEY) is None
    store.close()


def test_a_run_that_no_peer_could_check_or_no_ledger_takes(
    failed: Failed, home: Path, tmp_path: Path
) -> None:
    """Said before the run is opened, also by a launcher who does not train."""
    home.mkdir()
    (home / "node.toml").write_text("solve = false\n")
    (tmp_path / "nowhere.txt").write_text("text " * 10_000)
    (tmp_path / "other.txt").write_text("more " * 10_000)
    text = FILE.replace('"nowhere.txt"', '"nowhere.txt", "other.txt"') + "heldout_every = 2\n"
    large = text.replace("intermediate_size = 64", "intermediate_size = 65536\n").replace(
        "hidden_size = 32", "hidden_size = 256"
    )
    exact = '[run]\nnumerics = "seq-f32/1"\n'
    replay = '[checks]\nway = "replay"\n'
    printed = failed(4, "launch", a_run_file(tmp_path, exact + replay + large), *NODE)
    assert "no peer checks more than 268" in printed
    assert "num_stages" in printed
    long = "[training]\ninner_steps_max = 10000\n[checks]\nwindow_steps = 1\n"
    printed = failed(4, "launch", a_run_file(tmp_path, exact + long + text), *NODE)
    assert "no ledger takes this run" in printed


@pytest.mark.rule("N22")
def test_a_forced_launch_warns_that_lies_pay_and_goes_on(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here to a text that is not there."""
    path = a_run_file(tmp_path, f"{FILE}[checks]\nprobability = 0.1\n")
    args = ("launch", path, *NODE, "--home", str(home))
    assert run(args) == 4
    assert "error: lies pay in this run" in capsys.readouterr().err
    assert not home.exists()
    assert run([*args, "--force"]) == 4
    told = capsys.readouterr().err
    assert "warning   lies pay in this run" in told
    assert "the worst lie gains 0.51 of a segment's cost" in told
    assert "nowhere.txt cannot be read" in told


@pytest.mark.rule("N22")
def test_a_launch_says_what_is_found_as_figures_too(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("launch", a_run_file(tmp_path), *NODE, "--json", "--home", str(home))
    assert run(args) == 4
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = (event["fields"] for event in events if "the worst lie" in event["text"])
    assert (
        found["worst_nano"] < 0 < found["found_one_window_nano"] < found["found_all_windows_nano"]
    )


def test_an_identity_that_is_damaged_or_open_to_others(failed: Failed, home: Path) -> None:
    load_identity(home)
    key = home / "identity.key"
    good = key.read_bytes()
    key.chmod(0o640)
    assert f"chmod 600 {key}" in failed(5, "join", format_ticket(a_ticket()), *NODE)
    key.chmod(0o600)
    key.write_bytes(b"junk\n")
    assert "does not hold a key" in failed(5, "join", format_ticket(a_ticket()), *NODE)
    key.write_bytes(good)
    assert load_identity(home)


@pytest.mark.rule("N14")
def test_a_second_process_on_one_home(failed: Failed, home: Path) -> None:
    with lock_home(home):
        assert "already in use by pid" in failed(5, "join", format_ticket(a_ticket()), *NODE)


def test_a_port_that_is_taken_or_impossible(failed: Failed) -> None:
    args = ("join", format_ticket(a_ticket()), "--api-port", "0", "--plain", "--listen")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is already in use" in failed(
            2, *args, f"127.0.0.1:{port}"
        )
    assert "not host:port" in failed(2, *args, "127.0.0.1")
    assert "cannot listen on 203.0.113.9:4001" in failed(2, *args, "203.0.113.9:4001")


@pytest.mark.rule("N14")
def test_a_ticket_of_another_network_for_a_home_that_has_one(
    failed: Failed, home: Path, tmp_path: Path
) -> None:
    a_home_with_a_network(home, tmp_path, failed)
    printed = failed(2, "join", format_ticket(a_ticket()), *NODE)
    assert "belongs to the network" in printed
    assert "--home ANOTHER_FOLDER" in printed


def flipped(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data[:64]) + data[64:]


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def replaced(data: bytes) -> bytes:
    return b"junk" * len(data)


@pytest.mark.rule("N14", "S24")
@pytest.mark.parametrize(
    "damage",
    [flipped, halved, replaced],
    ids=["flipped bytes", "cut short", "something else"],
)
def test_a_damaged_database_stops_the_node_and_is_left_alone(
    failed: Failed, home: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Nothing is overwritten; with the file moved away as the hint says, the home works again."""
    a_home_with_a_network(home, tmp_path, failed)
    store = home / "store.sqlite"
    store.write_bytes(damage(store.read_bytes()))
    kept = store.read_bytes()
    for args in (("join", *NODE), ("ledger", "verify"), ("ledger", "tail"), ("export", "out")):
        printed = failed(1, *args)
        assert "is damaged" in printed
        assert f"mv {store} {store}.damaged" in printed
        assert store.read_bytes() == kept
    shutil.move(store, f"{store}.damaged")
    assert "nowhere.txt" in failed(4, "launch", a_run_file(tmp_path), *NODE)


@pytest.mark.rule("N14")
def test_a_damaged_genesis_file(failed: Failed, home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (home / "genesis.bin").write_bytes(b"junk")
    printed = failed(1, "launch", a_run_file(tmp_path), *NODE)
    assert f"mv {home / 'genesis.bin'}" in printed


def test_what_nobody_reads_any_more_is_no_failure(home: Path) -> None:
    """``swarm launch | head`` must not end in a bug report."""
    from swarm.cli.errors import is_reader_gone

    assert is_reader_gone(BaseExceptionGroup("", [BrokenPipeError(), BrokenPipeError()]))
    assert not is_reader_gone(BaseExceptionGroup("", [BrokenPipeError(), ValueError()]))


def test_a_peer_id_is_not_a_ticket(failed: Failed) -> None:
    assert "not a ticket" in failed(2, "join", PeerId(b"p" * 32).hex())
