"""A start is one of three things; it is read, and refused, before anything runs."""

from pathlib import Path

import pytest

from swarm.config.load import genesis_of, parse_run_file
from swarm.config.schema import NodeConfig, RunFile
from swarm.errors import BadConfig, BadTicket, VerificationFailed
from swarm.node.join.join import NO_RUN, RUN_KEY, TABLE, targets_of, wanted_run
from swarm.node.start import Join, Launch, Resume, Start, fitted, fitted_to, prepared, save_genesis
from swarm.store import Store
from swarm.ticket import Ticket, format_ticket
from swarm.types import PeerId
from tests.training.datasets import build, some_texts, write_texts

PEER = PeerId(b"\3" * 32)
TICKET = Ticket(b"\1" * 16, b"\2" * 16, PEER, ("/ip4/127.0.0.1/tcp/4001",), 0)


def test_a_join_reads_its_ticket_at_once() -> None:
    assert Join(format_ticket(TICKET)) == Join(TICKET)
    assert Join(TICKET).ticket == TICKET
    old = Ticket(b"\1" * 16, b"\2" * 16, PEER, ("/ip4/127.0.0.1/tcp/4001",), 1)
    for text in ("hello", format_ticket(TICKET)[:-1], format_ticket(old)):
        with pytest.raises(BadTicket):
            Join(text)


def test_a_launch_reads_its_file_and_knows_what_its_paths_are_relative_to(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[run]\nname = "mine"')
    assert (Launch(path).file.run.name, Launch(path).base) == ("mine", tmp_path)
    assert Launch(Launch(path).file).base == Path()
    assert Launch().file.run.name == "pydocs-demo"
    path.write_text('[run]\nnaem = "mine"')
    with pytest.raises(BadConfig, match='did you mean "name"'):
        Launch(path)
    with pytest.raises(BadConfig, match="cannot read") as caught:
        Launch(tmp_path / "nowhere.toml")
    assert caught.value.hint == f"swarm init {tmp_path / 'nowhere.toml'}"


def test_settings_that_do_not_go_together_are_refused_before_the_start(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[optimizer]\nwarmup_steps = 100000")
    for launch in (Launch(path), Launch(Launch(path).file)):
        with pytest.raises(BadConfig, match="warmup_steps 100000 must be at most") as caught:
            prepared(launch, tmp_path)
        assert caught.value.hint == f"edit {launch.path or 'the run file'}"


def test_a_launch_takes_the_pace_of_the_network_of_its_home(tmp_path: Path) -> None:
    pace = parse_run_file("[ledger]\nblock_interval_s = 2.0", "old.toml")
    one = {PEER: 1}
    save_genesis(tmp_path, genesis_of(pace, validators=one, accounts=one, seed=bytes(32)))
    fits = fitted(Launch(RunFile()), tmp_path)
    assert fits.file.ledger == pace.ledger
    assert fitted(fits, tmp_path) == fits
    path = tmp_path / "mine.toml"
    path.write_text("[checks]\nchallenge_window_blocks = 20000")
    with pytest.raises(BadConfig, match="on the network of this home") as caught:
        prepared(Launch(path), tmp_path)
    other = tmp_path.with_name(f"{tmp_path.name}-2")
    assert caught.value.hint == f"swarm launch {path} --home {other}"


def test_a_launch_elsewhere_takes_its_settings_from_the_peers_of_its_ticket(tmp_path: Path) -> None:
    start = Launch(RunFile(), network=format_ticket(TICKET))
    assert start.network == TICKET
    assert fitted(start, tmp_path) is start, "nobody knows them yet"
    pace = parse_run_file("[ledger]\nblock_interval_s = 2.0", "old.toml")
    one = {PEER: 1}
    genesis = genesis_of(pace, validators=one, accounts=one, seed=bytes(32))
    fits = fitted_to(start, genesis, tmp_path)
    assert (fits.file.ledger, fits.network) == (pace.ledger, TICKET)
    assert targets_of(fits, NodeConfig(), ()) == [(PEER, TICKET.addresses)]
    with pytest.raises(BadTicket):
        Launch(RunFile(), network="swarm1:nonsense")


def test_a_dataset_is_found_by_name_before_the_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = home / "datasets" / "mine"
    build(folder, write_texts(tmp_path / "texts", some_texts()))
    assert prepared(Join(TICKET, dataset="mine"), home) == Join(TICKET, dataset=folder)
    assert prepared(Resume("mine"), home) == Resume(str(folder))
    for launch in (
        Launch(parse_run_file('[data]\ndataset = "mine"', "mine.toml"), base=tmp_path),
        Launch(RunFile(), base=tmp_path, dataset="mine"),
    ):
        found = prepared(launch, home)
        assert isinstance(found, Launch)
        assert (found.file.data.dataset, found.base) == (str(folder), tmp_path)
        assert prepared(found, home) == found
    for start in (Join(TICKET), Resume(), Launch()):
        assert prepared(start, home) == start
    for start in (Join(TICKET, dataset="none"), Resume("none"), Launch(RunFile(), dataset="none")):
        with pytest.raises(BadConfig, match="there is no dataset"):
            prepared(start, home)
    with pytest.raises(BadConfig, match="a dataset and a source"):
        Launch(parse_run_file('[data]\nsource = ["texts"]', "mine.toml"), dataset="mine")
    data = launch.file.data.model_copy(update={"dataset_hash": "0" * 64})
    with pytest.raises(VerificationFailed):
        prepared(Launch(launch.file.model_copy(update={"data": data})), home)


@pytest.mark.parametrize(
    ("start", "first"), [(Join(TICKET), [PEER]), (Resume(), []), (Launch(), [])]
)
def test_the_peer_of_the_ticket_is_called_first(start: Start, first: list[PeerId]) -> None:
    known = PeerId(b"\4" * 32)
    recalled = [(known, ("/ip4/127.0.0.1/tcp/4002",)), (PEER, ("/ip4/127.0.0.1/tcp/4003",))]
    found = [peer for peer, _ in targets_of(start, NodeConfig(), recalled)]
    assert found == ([*first, known] if first else [known, PEER])


def test_the_run_of_the_ticket_comes_before_that_of_the_home(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    open_ticket = Ticket(b"\1" * 16, NO_RUN, PEER, TICKET.addresses, 0)
    try:
        assert wanted_run(store, Resume()) == wanted_run(store, Join(open_ticket)) == NO_RUN
        store.put(TABLE, RUN_KEY, b"\5" * 16)
        assert wanted_run(store, Join(TICKET)) == TICKET.run16
        assert wanted_run(store, Resume()) == wanted_run(store, Join(open_ticket)) == b"\5" * 16
    finally:
        store.close()
