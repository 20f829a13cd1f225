"""Define how a node starts: it joins a network, launches a run, or resumes where its home left off.

Shell: reads run files, datasets, the genesis of a home and, for a ticket's expiry, the clock.

Everything here is read before torch and libp2p are loaded, so that a mistake is reported at once.
"""

import math
import time
from bisect import bisect_left
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeAlias, assert_never

from swarm.config.bounds import BOUNDS
from swarm.config.load import check_network, check_run_file, planned_spec, read_run_file
from swarm.config.resources import packaged_file, read_text
from swarm.config.schema import RunFile, check_data
from swarm.config.spec import NANO, Genesis, RunSpec
from swarm.config.tolerance import SPOT_ITEMS
from swarm.errors import BadConfig, BadEncoding, Corrupt
from swarm.files import write_whole
from swarm.ledger.odds import LookOdds, Odds, look_odds_of, odds_of
from swarm.primitives.codec import decode, encode, replace
from swarm.ticket import Ticket, parse_ticket
from swarm.training.data.dataset import check_hash
from swarm.training.data.disk import dataset_path, names_by_hash, open_dataset

DEMO_FILE = "demo.toml"
UNNAMED = "the run file"
"""Name in errors of settings that were not read from a path."""
GENESIS_FILE = "genesis.bin"
GENESIS_BYTES_MAX = 1 << 20
"""As long as one that peers send."""


@dataclass(frozen=True, slots=True, init=False)
class Join:
    """Start that joins the network and the run of a ticket."""

    ticket: Ticket
    dataset: str
    """Dataset on this disk that the run must be about, a name or a path with a /; if empty, peers send it."""

    def __init__(self, ticket: str | Ticket, *, dataset: str | Path = "") -> None:
        """Read the ticket.

        Args:
            ticket: ``swarm1:...``, as ``Node.ticket`` and ``swarm ticket new`` return it.
            dataset: Name of a dataset of the home, or the path of one; without it peers send the text.

        Raises:
            BadTicket: It is mistyped, cut short, expired or made by a newer version.
        """
        parsed = ticket if isinstance(ticket, Ticket) else parse_ticket(ticket, int(time.time()))
        object.__setattr__(self, "ticket", parsed)
        object.__setattr__(self, "dataset", str(dataset))


@dataclass(frozen=True, slots=True, init=False)
class Launch:
    """Start that opens a run, on the network of the home or, where it has none, on a new one."""

    file: RunFile
    """Settings of the run, each within its bounds; whether they go together is checked at the start."""
    base: Path
    """Folder that the paths in ``file`` are relative to."""
    path: str
    """Path of the run file; empty for the packaged one, and for settings that are no file."""
    network: Ticket | None
    """Ticket of a network that is there; its settings count. None: that of the home, or a new one."""
    force: bool
    """True for a warning in the place of a refusal where lies pay in the run."""

    def __init__(
        self,
        file: RunFile | str | Path = "",
        *,
        base: str | Path | None = None,
        dataset: str | Path = "",
        network: str | Ticket = "",
        force: bool = False,
    ) -> None:
        """Read the run file, if it is named by its path.

        Args:
            file: Settings of the run, or the path of a run file; empty stands for the packaged demo run.
            base: Folder that the paths in it are relative to. By default that of the run file, and the current
                one for settings that are no file.
            dataset: Dataset to train on, as a name or a path with a /; by default what the file says.
            network: Ticket of any run on the network to launch on.
            force: Open the run even if the worst lie in it gains more than it loses, and warn of that.

        Raises:
            BadTicket: The ticket is mistyped, cut short, expired or made by a newer version.
            BadConfig: The file is unreadable, names an unknown setting, or has a value out of bounds.
        """
        path = "" if isinstance(file, RunFile) else str(file)
        if not isinstance(file, RunFile):
            text = read_text(Path(path), f"swarm init {path}") if path else packaged_file(DEMO_FILE)
            file = read_run_file(text, path or DEMO_FILE)
        if dataset:
            file = _on_dataset(file, str(dataset), path or DEMO_FILE)
        object.__setattr__(self, "file", file)
        object.__setattr__(self, "base", Path(path).parent if base is None else Path(base))
        object.__setattr__(self, "path", path)
        if network and not isinstance(network, Ticket):
            network = parse_ticket(network, int(time.time()))
        object.__setattr__(self, "network", network or None)
        object.__setattr__(self, "force", force)


@dataclass(frozen=True, slots=True)
class Resume:
    """Start that goes on with the network and the run of the home."""

    dataset: str = ""
    """Dataset on this disk that the run must be about, as in ``Join``."""


Start: TypeAlias = Join | Launch | Resume


def prepared(start: Start, home: Path) -> Start:
    """Return the start with the folder of its dataset in place of a name, and a run that fits the home.

    Raises:
        BadConfig: There is no such dataset, the settings of the run fit neither each other nor the network, or
            lies pay in it.
        VerificationFailed: A launch pins the hash of a dataset, and this one has another.
    """
    match start:
        case Join(ticket, dataset):
            return Join(ticket, dataset=_folder(home, dataset)) if dataset else start
        case Resume(dataset):
            return Resume(_folder(home, dataset)) if dataset else start
        case Launch():
            fits = fitted(start, home)
            if fits is not start and not start.force:  # the network is known, and so is its stake
                check_odds(planned_spec(fits.file), fits.file.ledger.stake_segments)
            return _with_dataset(fits, home)
        case _:
            assert_never(start)


def fitted(start: Launch, home: Path) -> Launch:
    """Return the launch with the ``[ledger]`` section of the home's network, if the home belongs to one.

    Raises ``BadConfig`` for settings that do not go together, or a run that does not fit that network, then
    with the launch that works.
    """
    network = saved_genesis(home)
    if network is None and start.network is not None:
        return start  # its peers tell the settings that count
    return fitted_to(start, network, home)


def fitted_to(start: Launch, network: Genesis | None, home: Path) -> Launch:
    """Return the launch with the ``[ledger]`` section of a network; raise as ``fitted`` does."""
    file = check_run_file(start.file, start.path or UNNAMED, network)
    if network is not None:
        try:
            check_network(file, network)
        except BadConfig as error:
            command = f"swarm launch {start.path} --home {_free_home(home)}".replace("  ", " ")
            if file.data.dataset:
                folder = dataset_path(home, start.base, file.data.dataset).absolute()
                command += f" --dataset {folder}"
            raise BadConfig(f"{error}, on the network of this home", hint=command) from None
    return _with_file(start, file)


def check_odds(spec: RunSpec, stake_segments: int) -> None:
    """Raise ``BadConfig`` for a run that is checked, and in which the worst lie still gains more than it loses.

    ``stake_segments`` is the stake of a solver on its network.
    """
    if unchecked_text(spec):
        return
    if text := paying_text(odds_of(spec, stake_segments)):
        ways = [*odds_remedies(spec, stake_segments), "launch it with --force"]
        raise BadConfig(text, hint=", or ".join(ways))
    looking = look_odds_of(spec, stake_segments)
    if 0 < spec.checks.forced_nano < looking.least_forced * NANO:
        least = math.ceil(looking.least_forced * 1000) / 1000
        raise BadConfig(
            f"{lazy_text(spec, looking)}: it must lose more",
            hint=f"set forced to at least {least:g} in [checks], or launch it with --force",
        )


def unchecked_text(spec: RunSpec) -> str:
    """Return a sentence about a run in which nothing is proved; empty for any other."""
    if not spec.is_exact:
        return (
            f"no lie about work in {spec.numerics} can be proved, or cost a stake: give the ticket to people"
            " you trust"
        )
    if not spec.checks.probability_nano:
        return (
            "nothing in this run is checked, for probability is 0 in [checks]: give the ticket to people you"
            " trust"
        )
    return ""


def lazy_text(spec: RunSpec, looking: LookOdds) -> str:
    """Return a sentence about a verifier that does not look, in a run where checks look at elements."""
    if not spec.checks.spots:
        return ""
    forced = spec.checks.forced_nano / NANO
    if not forced:
        return "a verifier that does not look is not found out: forced is 0 in [checks]"
    change = "gains" if looking.lazy >= 0 else "loses"
    return (
        f"a verifier that does not look {change} {abs(looking.lazy):.2g} of a segment's cost by each check, for"
        f" {forced:.2%} of what it is told is false on purpose; one that looks has {looking.looks:.2g}"
    )


def odds_text(odds: Odds, spec: RunSpec) -> str:
    """Return a sentence about what those who check a run find, and about the worst lie."""
    how = f"at {SPOT_ITEMS:,} drawn runs of elements of one step: " if spec.checks.spots else ""
    return how + (
        f"a lie in one window is found in {odds.found_one_window:.0%} of all cases, in all windows in"
        f" {odds.found_all_windows:.0%}, if half of the verifiers are away and a third of the others help it;"
        f" the worst lie {'gains' if odds.worst > 0 else 'loses'} {abs(odds.worst):.2g} of a segment's cost"
    )


def paying_text(odds: Odds) -> str:
    """Return a sentence about the lie that pays best; empty if none pays."""
    if odds.worst <= 0:
        return ""
    gain = f"{odds.worst:.2g} of a segment's cost"
    return f"lies pay in this run: on average {gain} is gained by {odds.worst_way}"


def odds_remedies(spec: RunSpec, stake_segments: int) -> list[str]:
    """Return what to change that no lie pays in a run; each of it alone would do."""

    def is_safe(percent: int) -> bool:
        checks = replace(spec.checks, probability_nano=percent * NANO // 100)
        return odds_of(replace(spec, checks=checks), stake_segments).worst <= 0

    percents, ways = range(1, 101), list[str]()
    least = bisect_left(percents, x=True, key=is_safe)
    if least < len(percents):
        ways.append(
            f"set probability to at least {percents[least] / 100:g} in [checks] of the run file"
        )
    if odds_of(spec, BOUNDS["stake_segments"][1]).worst <= 0:
        ways.append("take a network with more stake_segments")
    return ways


def saved_genesis(home: Path) -> Genesis | None:
    """Read the genesis of the network of a home; None for a home that belongs to none yet.

    Raises ``Corrupt`` when the file holds something else.
    """
    path = home / GENESIS_FILE
    if not path.exists():
        return None
    try:
        return decode(Genesis, path.read_bytes(), limit=GENESIS_BYTES_MAX)
    except BadEncoding as error:
        raise Corrupt(f"{path} is damaged: {error}", hint=f"mv {path} {path}.damaged") from None


def save_genesis(home: Path, genesis: Genesis) -> None:
    """Write the genesis beside the store, for people and for tools."""
    write_whole(home / GENESIS_FILE, encode(genesis))


def _on_dataset(file: RunFile, dataset: str, name: str) -> RunFile:
    """Return the settings of a run with another dataset; raise ``BadConfig`` where they name a source too."""
    chosen = str(Path(dataset).expanduser().absolute()) if "/" in dataset else dataset
    data = file.data.model_copy(update={"dataset": chosen})
    check_data(data, name)
    return file.model_copy(update={"data": data})


def _with_dataset(start: Launch, home: Path) -> Launch:
    """Return the launch with the folder of its dataset in place of a name, and its hash checked."""
    data = start.file.data
    if not data.dataset:
        return start
    folder = dataset_path(home, start.base, data.dataset).absolute()
    known = names_by_hash(home) if data.dataset_hash else {}
    check_hash(open_dataset(folder).manifest, data.dataset_hash, str(folder), known)
    data = data.model_copy(update={"dataset": str(folder)})
    return _with_file(start, start.file.model_copy(update={"data": data}))


def _with_file(start: Launch, file: RunFile) -> Launch:
    changed = Launch(file, base=start.base, network=start.network or "", force=start.force)
    object.__setattr__(changed, "path", start.path)
    return changed


def _folder(home: Path, dataset: str) -> str:
    return str(open_dataset(dataset_path(home, Path(), dataset).absolute()).folder)


def _free_home(home: Path) -> Path:
    """Return a folder beside ``home`` that is not there yet."""
    numbers = (
        number for number in count(2) if not home.with_name(f"{home.name}-{number}").exists()
    )
    return home.with_name(f"{home.name}-{next(numbers)}")
