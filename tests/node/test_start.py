"""A start is one of three things; it is read, and refused, before anything runs."""

import re
from pathlib import Path

import pytest

from swarm.config.load import genesis_of, parse_run_file, planned_spec, read_run_file
from swarm.config.schema import RECIPES, NodeConfig, RunFile, run_template
from swarm.errors import BadConfig, BadTicket, VerificationFailed
from swarm.ledger.odds import look_odds_of, odds_of
from swarm.node.join.join import NO_RUN, RUN_KEY, TABLE, targets_of, wanted_run
from swarm.node.start import (
    Join,
    Launch,
    Resume,
    Start,
    check_odds,
    fitted,
    fitted_to,
    lazy_text,
    paying_text,
    prepared,
    save_genesis,
    unchecked_text,
)
from swarm.store import Store
from swarm.ticket import Ticket, format_ticket
from swarm.types import PeerId
from tests.training.datasets import build, some_texts, write_texts

PEER = PeerId(b"\3" * 32)
ROOT = Path(__file__).parents[2]
RUN_FILES = [
    *(path for path in sorted((ROOT / "configs").glob("*.toml")) if "[run]" in path.read_text()),
    *sorted((ROOT / "examples").glob("*.toml")),
    *sorted((ROOT / "benchmarks").glob("*.toml")),
]
LIES_PAY = "[checks]\nprobability = 0.01"
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


@pytest.mark.rule("N22")
def test_a_run_in_which_lies_pay_is_refused_before_the_start(tmp_path: Path) -> None:
    """With the lie, its gain and the setting that would do; nothing is in the home yet."""
    file, home = parse_run_file(LIES_PAY, "poor.toml"), tmp_path / "home"
    with pytest.raises(BadConfig, match=r"lies pay in this run: on average 0\.9\d of a") as caught:
        prepared(Launch(file), home)
    assert "is gained by a lie in 5 of 5 windows, hidden from who finds it" in str(caught.value)
    found = re.fullmatch(
        r"set probability to at least (0\.\d\d) in \[checks\] of the run file, or launch it with --force",
        caught.value.hint,
    )
    assert found, caught.value.hint
    assert not home.exists()
    least = float(found[1])
    for probability, is_refused in ((least, False), (round(least - 0.01, 2), True)):
        text = f"[checks]\nprobability = {probability}"
        spec = planned_spec(parse_run_file(text, "a.toml"))
        assert bool(paying_text(odds_of(spec, 60))) is is_refused
    forced = prepared(Launch(file, force=True), home)
    assert isinstance(forced, Launch)
    assert forced.force, "what is asked again later"


@pytest.mark.rule("N22")
def test_a_run_in_which_nothing_is_checked_is_not_refused(tmp_path: Path) -> None:
    for text, cause in (
        ("[checks]\nprobability = 0.0", "probability is 0 in [checks]"),
        (f'[run]\nnumerics = "native"\n{LIES_PAY}', "no lie about work in native can be proved"),
    ):
        start = Launch(parse_run_file(text, "a.toml"))
        assert prepared(start, tmp_path) == start
        assert cause in unchecked_text(planned_spec(start.file))


@pytest.mark.rule("N22", "V56")
def test_a_run_in_which_it_pays_not_to_look_is_refused_with_what_would_do() -> None:
    looked_at = '[run]\nnumerics = "seq-f32/1"\n[checks]\nway = "spots"\n'
    few = f"{looked_at}forced = FORCED\n[training]\ninner_steps_max = 12"
    for forced, is_refused in (("0.01", True), ("0.03", True), ("0.045", False), ("0.0", False)):
        spec = planned_spec(parse_run_file(few.replace("FORCED", forced), "a.toml"))
        text = lazy_text(spec, look_odds_of(spec, 60))
        if not is_refused:
            check_odds(spec, 60)
            assert ("loses" in text) is (forced != "0.0")
            assert ("is not found out" in text) is (forced == "0.0")
            continue
        with pytest.raises(BadConfig, match="it must lose more") as caught:
            check_odds(spec, 60)
        assert "set forced to at least 0.041 in [checks]" in caught.value.hint
    assert not lazy_text(planned_spec(RunFile()), look_odds_of(planned_spec(RunFile()), 60))


@pytest.mark.rule("N22")
def test_the_stake_of_the_network_decides_whether_lies_pay(tmp_path: Path) -> None:
    """That of the home's network, whatever the file says, or that of a ticket, which only its peers know."""
    cheap, dear = "[ledger]\nstake_segments = 1", "[ledger]\nstake_segments = 60"
    checks, one = "[checks]\nprobability = 0.3\n", {PEER: 1}
    for network, ledger, is_refused in ((cheap, dear, True), (dear, cheap, False)):
        file = parse_run_file(network, "old.toml")
        save_genesis(tmp_path, genesis_of(file, validators=one, accounts=one, seed=bytes(32)))
        start = Launch(parse_run_file(checks + ledger, "a.toml"))
        if not is_refused:
            prepared(start, tmp_path)
            continue
        with pytest.raises(BadConfig, match="that is shown to all") as caught:
            prepared(start, tmp_path)
        assert "or take a network with more stake_segments, or" in caught.value.hint
    elsewhere = Launch(parse_run_file(LIES_PAY, "a.toml"), network=TICKET)
    assert prepared(elsewhere, tmp_path / "new") is elsewhere


@pytest.mark.rule("N22")
@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_run_file_of_this_repository_is_refused(path: Path) -> None:
    file = Launch(path).file
    check_odds(planned_spec(file), file.ledger.stake_segments)


def test_no_run_file_that_is_written_for_others_is_refused() -> None:
    """Those of ``swarm init`` with each recipe, and of the page about fine-tuning."""
    texts = [run_template(RunFile()), *(f'[run]\nrecipe = "{recipe}"\n' for recipe in RECIPES)]
    texts += re.findall(r"```toml\n(.*?)```", (ROOT / "docs/fine-tuning.md").read_text(), re.DOTALL)
    assert len(texts) == 2 + len(RECIPES)
    for text in texts:
        file = read_run_file(text, "a.toml")
        assert odds_of(planned_spec(file), file.ledger.stake_segments).worst < 0


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
