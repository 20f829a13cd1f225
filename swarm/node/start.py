"""Define how a node starts: it joins a network, launches a run, or resumes where its home left off.

Shell: reads run files, datasets and, for a ticket's expiry, the clock.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, assert_never

from swarm.config.load import parse_run_file
from swarm.config.resources import load_run, packaged_file
from swarm.config.schema import RunFile
from swarm.ticket import Ticket, parse_ticket
from swarm.training.data.dataset import check_hash
from swarm.training.data.disk import dataset_path, names_by_hash, open_dataset

DEMO_FILE = "demo.toml"


@dataclass(frozen=True, slots=True, init=False)
class Join:
    """Start that joins the network and the run of a ticket."""

    ticket: Ticket
    dataset: str
    """Dataset on this disk that the run must be about, as a name or a path; empty: peers send the text."""

    def __init__(self, ticket: str | Ticket, *, dataset: str | Path = "") -> None:
        """Read the ticket.

        Args:
            ticket: ``swarm1:...``, as ``Node.ticket`` and ``swarm ticket new`` give it.
            dataset: Name of a dataset of the home, or the path of one; without it peers send the text.

        Raises:
            BadTicket: It is mistyped, cut short, expired or made by a newer version.
        """
        parsed = ticket if isinstance(ticket, Ticket) else parse_ticket(ticket, int(time.time()))
        object.__setattr__(self, "ticket", parsed)
        object.__setattr__(self, "dataset", str(dataset))


@dataclass(frozen=True, slots=True, init=False)
class Launch:
    """Start that opens a run, on the network of the home or on a new one."""

    file: RunFile
    base: Path
    """Folder that the paths in ``file`` are relative to."""

    def __init__(self, file: RunFile | str | Path = "", *, base: str | Path | None = None) -> None:
        """Read the run file, if it is named by its path.

        Args:
            file: Settings of the run, or the path of a run file; empty stands for the packaged demo run.
            base: Folder that the paths in it are relative to. By default that of the run file, and the current
                one for settings that are no file.

        Raises:
            BadConfig: As for ``load_run``.
        """
        folder = Path()
        if not isinstance(file, RunFile):
            folder = Path(file).parent
            file = (
                load_run(file) if str(file) else parse_run_file(packaged_file(DEMO_FILE), DEMO_FILE)
            )
        object.__setattr__(self, "file", file)
        object.__setattr__(self, "base", folder if base is None else Path(base))


@dataclass(frozen=True, slots=True)
class Resume:
    """Start that goes on with the network and the run of the home."""

    dataset: str = ""
    """As in ``Join``."""


Start: TypeAlias = Join | Launch | Resume


def with_dataset(start: Start, home: Path) -> Start:
    """Return the start with the folder of its dataset in place of a name.

    Raises:
        BadConfig: There is no such dataset, or a launch pins a hash and this one has another.
    """
    match start:
        case Join(ticket, dataset):
            return Join(ticket, dataset=_folder(home, dataset)) if dataset else start
        case Resume(dataset):
            return Resume(_folder(home, dataset)) if dataset else start
        case Launch(file, base):
            if not file.data.dataset:
                return start
            folder, pinned = (
                dataset_path(home, base, file.data.dataset).absolute(),
                file.data.dataset_hash,
            )
            names = names_by_hash(home) if pinned else {}
            check_hash(open_dataset(folder).manifest, pinned, str(folder), names)
            data = file.data.model_copy(update={"dataset": str(folder)})
            return Launch(file.model_copy(update={"data": data}), base=base)
        case _:
            assert_never(start)


def _folder(home: Path, dataset: str) -> str:
    return str(open_dataset(dataset_path(home, Path(), dataset).absolute()).folder)
