"""Read the files of settings: run files, node files, and those that are installed with the package.

Shell: reads the disk; ``swarm/configs`` is a link to the repository's ``configs``, and a copy in a wheel.
"""

from importlib import resources
from pathlib import Path

from swarm.config.load import parse_node_file
from swarm.config.schema import NodeConfig
from swarm.errors import BadConfig, UsageError

NODE_FILE = "node.toml"
FILE_BYTES_MAX = 1 << 20
"""Longest file of settings that is read: a run file with a thousand paths has a third of it."""


def packaged_file(name: str) -> str:
    """Return the text of ``configs/NAME``, such as ``demo.toml`` or ``node.toml``.

    Raises ``UsageError``, listing the files, if there is no such one.
    """
    folder = resources.files("swarm") / "configs"
    if name not in packaged_names():
        raise UsageError(f"no {name!r} in the package; there is: {', '.join(packaged_names())}")
    return (folder / name).read_text(encoding="utf-8")


def packaged_names() -> list[str]:
    """Return the names of the TOML files of ``configs``, sorted."""
    folder = resources.files("swarm") / "configs"
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_text(path: Path, hint: str) -> str:
    """Return the text of a file that the user named; raises ``BadConfig`` with the reason if it cannot."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode("utf-8")
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError:
        raise BadConfig(f"{path} is not a text file", hint=hint) from None


def load_node(home: Path) -> NodeConfig:
    """Read ``node.toml`` of a home; return the defaults if it has none. Raises ``BadConfig``."""
    path = home / NODE_FILE
    return parse_node_file(read_text(path, f"check {path}") if path.exists() else "", str(path))
