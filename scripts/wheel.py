#!/usr/bin/env python3
"""Build the wheel that a person installs: ``scripts/build_wheel [DIR]`` runs this with pip at hand.

It carries the compiled kernels, which are opened by path and use nothing of Python: one wheel for a platform
serves every Python from 3.11 on. It also carries libp2p with the edits of ``libp2p_wheel.py``, since no
requirement could name them: in an environment of its own (pipx) nothing else brings a libp2p. The C library
that the kernels need is read from themselves, and is the tag of the wheel.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from scripts.libp2p_wheel import RELEASE, edited, make, write_wheel

ROOT = Path(__file__).parents[1]
GLIBC_LEAST = (2, 17)
"""Oldest C library that a wheel can be tagged for (manylinux2014)."""
VERSION_EDITS = {
    "libp2p/__init__.py": (
        ("from importlib.metadata import version as __version\n", ""),
        ('__version__ = __version("libp2p")\n', f'__version__ = "{RELEASE}"\n'),
    ),
    "libp2p/utils/version.py": (("{version('libp2p')}", RELEASE),),
}
"""Edits of what would ask for a distribution of the name libp2p, where there is none."""


def copy_sources(folder: Path) -> None:
    """Copy the files of the project into a folder, without what was built before."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():  # configs, into the package
            target.symlink_to(source.readlink())
        elif source.is_file():
            target.write_bytes(source.read_bytes())


def build_plain(sources: Path, folder: Path) -> Path:
    """Return the wheel that setuptools builds of the sources, in a folder."""
    command = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--quiet"]
    command += ["--no-deps", "--wheel-dir", str(folder), str(sources)]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise SystemExit("error: the wheel was not built; the reason is above")
    return next(folder.glob("*.whl"))


def kernel_paths(pyproject: str) -> list[str]:
    """Return the paths of the compiled kernels in a wheel, from the text of pyproject.toml."""
    modules = tomllib.loads(pyproject)["tool"]["setuptools"]["ext-modules"]
    return [f"{str(module['name']).replace('.', '/')}.abi3.so" for module in modules]


def platform_tag(built: str, kernels: list[bytes]) -> str:
    """Return the platform of a wheel: that which setuptools found, on Linux with the oldest glibc that does."""
    machine = built.removeprefix("linux_")
    if machine == built:
        return built
    asked = [GLIBC_LEAST]
    for library in kernels:
        asked += [(int(a), int(b)) for a, b in re.findall(rb"\0GLIBC_(\d+)\.(\d+)", library)]
    major, minor = max(asked)
    return f"manylinux_{major}_{minor}_{machine}"


def joined_metadata(ours: str, theirs: str) -> str:
    """Return our metadata with the requirements of libp2p in place of libp2p itself."""
    mine, count = re.subn(r"^Requires-Dist: libp2p\b.*\n", "", ours, flags=re.MULTILINE)
    if count != 1:
        raise SystemExit("error: libp2p is no requirement of this project, or more than one")
    needed = [
        line
        for line in theirs.partition("\n\n")[0].splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    head, gap, text = mine.partition("\n\n")
    return "\n".join([head, *needed]) + gap + text


def read_wheel(path: Path) -> dict[str, bytes]:
    """Return the files of a wheel by path."""
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name) for name in packed.namelist() if name[-1] != "/"}


def whole_wheel(plain: Path, libp2p: Path, folder: Path) -> Path:
    """Write the wheel with kernels and libp2p into a folder; raise ``SystemExit`` where kernels are missing."""
    files, theirs = read_wheel(plain), read_wheel(libp2p)
    wanted = kernel_paths((ROOT / "pyproject.toml").read_text("utf-8"))
    missing = [name for name in wanted if name not in files]
    if missing:
        raise SystemExit(f"error: no compiler made {', '.join(missing)}\n  try: apt install gcc")
    project, version, _, _, built = plain.name.removesuffix(".whl").split("-")
    info = f"{project}-{version}.dist-info/"
    tag = f"py3-none-{platform_tag(built, [files[name] for name in wanted])}"
    their_info = next(name for name in theirs if name.endswith("/METADATA")).removesuffix(
        "METADATA"
    )
    for name, data in theirs.items():
        if name.startswith("libp2p/"):
            files[name] = data
        elif name.startswith(f"{their_info}licenses/"):
            files[f"{info}licenses/libp2p/{Path(name).name}"] = data
    for name, edits in VERSION_EDITS.items():
        files[name] = edited(files[name].decode(), edits, name).encode()
    metadata = f"{info}METADATA"
    files[metadata] = joined_metadata(
        files[metadata].decode(), theirs[f"{their_info}METADATA"].decode()
    ).encode()
    files[f"{info}top_level.txt"] = b"libp2p\nswarm\n"
    files[f"{info}WHEEL"] = re.sub(
        rb"^Tag: .*$", f"Tag: {tag}".encode(), files[f"{info}WHEEL"], flags=re.MULTILINE
    )
    del files[f"{info}RECORD"]
    path = folder / f"{project}-{version}-{tag}.whl"
    write_wheel(path, files, info)
    return path


def main() -> None:
    """Build into the folder that the command line names, by default ``dist``."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        aside = Path(name)
        copy_sources(aside / "sources")
        plain = build_plain(aside / "sources", aside / "plain")
        path = whole_wheel(plain, make(aside / "libp2p"), folder)
    (folder / "constraints.txt").write_bytes((ROOT / "constraints.txt").read_bytes())
    print(path)


if __name__ == "__main__":
    main()
