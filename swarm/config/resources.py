"""Read the files of settings: run files, node files, and those that travel with the package.

Shell: reads the disk; ``swarm/configs`` is a link to the repository's ``configs``, and a copy in a wheel.
"""

from importlib import resources
from pathlib import Path

from swarm.config.load import parse_node_file, parse_run_file
from swarm.config.schema import NodeConfig, RunFile
from swarm.errors import BadConfig, UsageError

FILE_BYTES_MAX = 1 << 20
"""Longest file of settings that is read: a run file with a thousand paths has a third of it."""


def packaged_file(name: str) -> str:
    """Return the text of ``configs/NAME``: ``demo.toml``, ``node.toml``.

    Raises ``UsageError`` with the names of the packaged files if it is none of them.
    """
    folder = resources.files("swarm") / "configs"
    if name not in packaged_names():
        raise UsageError(f"no {name!r} in the package; there is: {', '.join(packaged_names())}")
    return (folder / name).read_text(encoding="utf-8")


def packaged_names() -> list[str]:
    """Return the names of the files of ``configs``, sorted."""
    folder = resources.files("swarm") / "configs"
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_text(path: Path, hint: str) -> str:
    """Return the text of a file that a person named; raise ``BadConfig`` if it is unreadable or no text."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode("utf-8")
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError:
        raise BadConfig(f"{path} is not a text file", hint=hint) from None


def load_run(path: str | Path) -> RunFile:
    """Read and check a run file.

    Args:
        path: A TOML file, such as ``swarm init`` writes.

    Returns:
        The settings of the run, frozen; what the file leaves out has its default.

    Raises:
        BadConfig: The file is unreadable, names an unknown setting (the nearest known one is told), or has a
            value out of bounds.
    """
    return parse_run_file(read_text(Path(path), "swarm init run.toml"), str(path))


def load_node(path: str | Path) -> NodeConfig:
    """Read and check a node file.

    Args:
        path: A TOML file with settings of one machine, such as ``node.toml`` of a home.

    Returns:
        The settings of the node, frozen; what the file leaves out has its default.

    Raises:
        BadConfig: As for ``load_run``.
    """
    return parse_node_file(read_text(Path(path), f"check {path}"), str(path))
