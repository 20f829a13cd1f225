"""Read the files that are installed with the package.

Shell: reads package data; ``swarm/configs`` is a link to the repository's ``configs``, and a copy in a wheel.
"""

from importlib import resources

from swarm.errors import UsageError


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
