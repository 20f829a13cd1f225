"""Tests for the ways in which the project is installed: what it asks for, and the wheels that scripts make."""

import re
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from scripts import libp2p_wheel, wheel

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PINS = dict(
    line.partition(";")[0].strip().split("==")
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if "==" in line and not line.startswith("#")
)


def named(requirements: list[str]) -> set[str]:
    """Return the names of the packages that a list of requirements asks for."""
    return {re.split(r"[^\w-]", one)[0] for one in requirements}


def release(folder: Path, **changed: str) -> Path:
    """Write a small wheel like that of the release of libp2p, with some of its texts changed."""
    texts = {name: "".join(old for old, _ in edits) for name, edits in libp2p_wheel.EDITS.items()}
    requires = "".join(f"Requires-Dist: {old}\n" for old in libp2p_wheel.REQUIRES)
    texts["libp2p/__init__.py"] = "import libp2p.host\n"
    texts["examples/chat.py"] = "print('chat')\n"
    texts[libp2p_wheel.INFO + "licenses/LICENSE-MIT"] = "MIT\n"
    texts[libp2p_wheel.INFO + "WHEEL"] = "Wheel-Version: 1.0\nTag: py3-none-any\n"
    texts[libp2p_wheel.INFO + "METADATA"] = (
        f"Name: libp2p\nVersion: {libp2p_wheel.RELEASE}\n{requires}Requires-Dist: trio>=0.26.0\n"
        'Requires-Dist: rich; extra == "demo"\n\nAbout libp2p.\n'
    )
    path = folder / "release.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in {**texts, **changed}.items():
            packed.writestr(name, text)
    return path


def test_a_plain_install_brings_neither_hivemind_nor_an_old_torch() -> None:
    asked = PYPROJECT["project"]["dependencies"]
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert "hivemind" not in named(asked)
    assert named(extras["relay"]) == {"hivemind"}
    assert "hivemind" in named(extras["dev"])
    assert "torch>=2.10" in asked


def test_one_build_of_the_kernels_serves_every_python() -> None:
    modules = PYPROJECT["tool"]["setuptools"]["ext-modules"]
    assert all(module["optional"] and module["py-limited-api"] for module in modules)
    texts = [path.read_text("utf-8") for path in (ROOT / "swarm").rglob("*.py")]
    opened = sorted(name for text in texts for name in re.findall(r'"(_\w+\.abi3\.so)"', text))
    built = sorted(f"{module['name'].rpartition('.')[2]}.abi3.so" for module in modules)
    assert opened == built


def test_the_edited_libp2p_is_the_release_that_is_pinned() -> None:
    assert PINS["libp2p"] == libp2p_wheel.RELEASE
    assert int(PINS["fastecdsa"].partition(".")[0]) >= 3, "the first with wheels for Linux is 3.0.1"


def test_an_edited_wheel_asks_for_what_has_wheels_and_leaves_examples_out(tmp_path: Path) -> None:
    files = libp2p_wheel.relaxed_files(release(tmp_path))
    metadata = files[libp2p_wheel.INFO + "METADATA"].decode()
    assert f"Version: {libp2p_wheel.LOCAL}\n" in metadata
    assert "==" not in metadata.replace('extra == "demo"', "")
    assert metadata.count('python_version < "3.14"') == 2
    assert not any(name.startswith("examples/") for name in files)
    assert files[libp2p_wheel.INFO + "licenses/LICENSE-MIT"] == b"MIT\n"


def test_another_release_is_not_edited_in_the_dark(tmp_path: Path) -> None:
    wheel_path = release(tmp_path, **{"libp2p/crypto/secp256k1.py": "import secp256k1\n"})
    with pytest.raises(SystemExit, match="is not the one that is known"):
        libp2p_wheel.relaxed_files(wheel_path)


@pytest.mark.parametrize("name", sorted(libp2p_wheel.EDITS))
def test_edited_modules_load_without_the_packages_that_have_no_wheel(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import libp2p

    text = (Path(str(libp2p.__file__)).parents[1] / name).read_text("utf-8")
    if not text.startswith(libp2p_wheel.NOTICE):
        text = libp2p_wheel.edited(text, libp2p_wheel.EDITS[name], name)
    for missing in ("coincurve", "miniupnpc"):
        monkeypatch.setitem(sys.modules, missing, None)
    found: dict[str, Any] = {"__name__": "edited"}
    exec(compile(text, name, "exec"), found)
    if "Secp256k1PublicKey" in found:
        with pytest.raises(ValueError, match="coincurve"):
            found["Secp256k1PublicKey"].from_bytes(bytes(33))
    else:
        with pytest.raises(RuntimeError, match="miniupnpc"):
            found["UpnpManager"]()


def test_a_wheel_is_the_same_bytes_each_time_and_lists_its_files(tmp_path: Path) -> None:
    files = {"a/b.py": b"x = 1\n", "a/c.so": b"\x7fELF"}
    paths = [tmp_path / "one.whl", tmp_path / "two.whl"]
    for path in paths:
        libp2p_wheel.write_wheel(path, files, "a-1.dist-info/")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    record = wheel.read_wheel(paths[0])["a-1.dist-info/RECORD"].decode().splitlines()
    assert [row.partition(",")[0] for row in record] == [*files, "a-1.dist-info/RECORD"]


@pytest.mark.parametrize(
    ("built", "asked", "tag"),
    [
        ("linux_x86_64", b"\0GLIBC_2.2.5\0GLIBC_2.14\0", "manylinux_2_17_x86_64"),
        ("linux_aarch64", b"\0GLIBC_2.34\0GLIBC_2.17\0", "manylinux_2_34_aarch64"),
        ("macosx_11_0_arm64", b"", "macosx_11_0_arm64"),
    ],
)
def test_a_wheel_is_tagged_with_the_c_library_that_its_kernels_ask_for(
    built: str, asked: bytes, tag: str
) -> None:
    assert wheel.platform_tag(built, [asked, b"\0GLIBC_2.2.5\0"]) == tag


def test_a_wheel_that_carries_libp2p_asks_for_what_libp2p_asks_for(tmp_path: Path) -> None:
    theirs = libp2p_wheel.relaxed_files(release(tmp_path))[libp2p_wheel.INFO + "METADATA"].decode()
    ours = "Name: swarm-train\nRequires-Dist: libp2p<0.9,>=0.8.1\nRequires-Dist: trio\n\nAbout.\n"
    joined = wheel.joined_metadata(ours, theirs)
    assert joined.endswith("\n\nAbout.\n")
    assert "Requires-Dist: libp2p" not in joined
    assert "Requires-Dist: trio>=0.26.0" in joined
    assert "extra ==" not in joined
    with pytest.raises(SystemExit, match="libp2p is no requirement"):
        wheel.joined_metadata(joined, theirs)


def test_the_wheel_carries_every_kernel() -> None:
    paths = wheel.kernel_paths((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "swarm/training/model/exact/_kernels.abi3.so" in paths
    assert len(paths) == 4
