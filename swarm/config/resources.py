"""Read the files that travel with the package, wherever it is installed.

Shell: reads package data; ``swarm/configs`` is a link to the repository's ``configs``, and a copy in a wheel.
"""

from importlib import resources

from swarm.errors import UsageError


def packaged_file(name: str) -> str:
    """The text of ``configs/NAME``: ``demo.toml``, ``node.toml``.

    Raises ``UsageError`` with what there is if there is no such file.
    """
    folder = resources.files("swarm") / "configs"
    if name not in packaged_names():
        raise UsageError(f"no {name!r} in the package; there is: {', '.join(packaged_names())}")
    return (folder / name).read_text(encoding="utf-8")


def packaged_names() -> list[str]:
    """The files of ``configs``, sorted."""
    folder = resources.files("swarm") / "configs"
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
