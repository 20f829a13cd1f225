#!/usr/bin/env python3
"""Make the wheel of libp2p that installs without a compiler: ``scripts/libp2p_wheel.py DIR``.

libp2p pins a fastecdsa that has no wheel for Linux, and imports two packages that have none for Python 3.14.
pip has no way to overrule the pin of a dependency, so the wheel of the pinned release is fetched, checked by
its hash, and written again into DIR under a local version (0.8.1+swarm.1), which pip prefers to the release:
with wider pins, and with imports that may fail for what swarm never uses (keys of secp256k1, UPnP). The same
change is asked for upstream (docs/libp2p-wheels.md); the day it is there, this file goes.

An edit that does not find its text ends with an error: another release has to be looked at by a person.
"""

import base64
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

RELEASE = "0.8.1"
"""Release that is edited; constraints.txt pins the same."""
SHA256 = "3d53daa20a6a78984c9b4ed1654d771757b187282f90376d7156c2b67828b308"
"""Hash of its wheel, which is one for all machines."""
LOCAL = f"{RELEASE}+swarm.1"
INFO = f"libp2p-{RELEASE}.dist-info/"
WHEEL_NAME = f"libp2p-{LOCAL}-py3-none-any.whl"
NOTICE = "# Changed by swarm, see docs/libp2p-wheels.md there.\n"
ZIP_DATE = (2020, 1, 1, 0, 0, 0)
"""Date of every file in a wheel that is written here, so that the same text makes the same bytes."""

REQUIRES = {
    'fastecdsa==2.3.2; sys_platform != "win32"': 'fastecdsa>=3.0.1; sys_platform != "win32"',
    "coincurve==21.0.0": 'coincurve>=21.0.0; python_version < "3.14"',
    "miniupnpc<3.0,>=2.3": 'miniupnpc<3.0,>=2.3; python_version < "3.14"',
}
"""Requirements of the release, and what they become."""

EDITS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "libp2p/crypto/secp256k1.py": (
        (
            "import coincurve\n",
            "try:\n"
            "    import coincurve\n"
            "except ImportError:  # no wheel for this Python: such keys are refused like malformed ones\n"
            "\n"
            "    class coincurve:  # type: ignore[no-redef]\n"
            "        class PublicKey:\n"
            "            def __init__(self, *_: object) -> None:\n"
            '                raise ValueError("keys of secp256k1 need the package coincurve")\n'
            "\n"
            "        PrivateKey = PublicKey\n"
            "\n",
        ),
    ),
    "libp2p/discovery/upnp/upnp.py": (
        (
            "import miniupnpc\n",
            "try:\n"
            "    import miniupnpc\n"
            "except ImportError:  # no wheel for this Python: there is no UPnP then\n"
            "    miniupnpc = None\n",
        ),
        (
            "        self._gateway = miniupnpc.UPnP()\n",
            "        if miniupnpc is None:\n"
            '            raise RuntimeError("UPnP needs the package miniupnpc")\n'
            "        self._gateway = miniupnpc.UPnP()\n",
        ),
    ),
}
"""Files of the release, with the texts that are replaced in them."""


def edited(text: str, edits: tuple[tuple[str, str], ...], name: str) -> str:
    """Return a text with each edit made once; raise ``SystemExit`` where one does not fit."""
    for old, new in edits:
        if text.count(old) != 1:
            raise SystemExit(f"error: {name} of libp2p is not the one that is known: no {old!r}")
        text = text.replace(old, new)
    return text


def relaxed_files(wheel: Path) -> dict[str, bytes]:
    """Return the package of a wheel of libp2p and its metadata by path, edited; its examples are left out."""
    found = dict[str, bytes]()
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            kept = name.startswith(("libp2p/", INFO + "licenses/"))
            if kept or name in {INFO + "METADATA", INFO + "WHEEL"}:
                found[name] = packed.read(name)
    for name, edits in EDITS.items():
        found[name] = (NOTICE + edited(found[name].decode(), edits, name)).encode()
    metadata = found[INFO + "METADATA"].decode()
    changes = [
        (f"Requires-Dist: {old}\n", f"Requires-Dist: {new}\n") for old, new in REQUIRES.items()
    ]
    changes.append((f"\nVersion: {RELEASE}\n", f"\nVersion: {LOCAL}\n"))
    found[INFO + "METADATA"] = edited(metadata, tuple(changes), "METADATA").encode()
    return found


def write_wheel(path: Path, files: Mapping[str, bytes], info: str) -> None:
    """Write files into a wheel, with the record of their hashes below the folder ``info``."""
    rows = []
    aside = path.with_suffix(".part")
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in sorted(files.items()):
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(data)}\n")
            packed.writestr(_entry(name), data)
        record = f"{info}RECORD"
        packed.writestr(_entry(record), "".join([*rows, f"{record},,\n"]))
    aside.replace(path)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, ZIP_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
    return entry


def fetch_release(folder: Path) -> Path:
    """Return the wheel of the release, fetched by pip into a folder; raise ``SystemExit`` if it is another."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), f"libp2p=={RELEASE}"]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise SystemExit("error: libp2p cannot be fetched; the reason is above")
    wheel = folder / f"libp2p-{RELEASE}-py3-none-any.whl"
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(
            f"error: {wheel.name} has another hash than the release that was looked at"
        )
    return wheel


def make(folder: Path) -> Path:
    """Return the edited wheel in a folder; it is fetched and written where it is not there."""
    path = folder / WHEEL_NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as aside:
            files = relaxed_files(fetch_release(Path(aside)))
        new = f"libp2p-{LOCAL}.dist-info/"
        moved = {name.replace(INFO, new, 1): data for name, data in files.items()}
        write_wheel(path, moved, new)
    return path


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
