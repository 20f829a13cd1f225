"""``import swarm`` gives a few documented names at once and loads what they need when they are used."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import swarm
from scripts import api_docs

HEAVY = ("torch", "libp2p", "hivemind", "pydantic", "rich", "trio", "numpy", "nacl", "starlette")
IMPORT_S = 0.1
NAMES = """Join Launch Ledger Node NodeConfig Resume RunFile SwarmError __version__ open_ledger
 open_node""".split()
NAMES_MAX = 12
ROOT = Path(__file__).parents[1]
SECTIONS = ("Args:", "Returns:", "Raises:")


def members(kind: type) -> dict[str, object]:
    """The public members that a class defines itself."""
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


def test_the_public_names_are_these() -> None:
    assert sorted(swarm.__all__) == sorted(NAMES)
    assert len(NAMES) <= NAMES_MAX
    assert set(NAMES) <= set(dir(swarm))
    for name in set(NAMES) - {"__version__"}:
        assert getattr(swarm, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = swarm.nothing


def test_an_import_loads_nothing_heavy_and_takes_no_time() -> None:
    """The best of three, on a busy machine."""
    program = (
        "import sys, time; began = time.perf_counter(); import swarm; took = time.perf_counter() - began;"
        f"print(took, [m for m in {HEAVY!r} if m in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        took, loaded = done.stdout.split(maxsplit=1)
        seconds.append(float(took))
        assert loaded.strip() == "[]"
    assert min(seconds) < IMPORT_S


def test_errors_and_settings_load_without_torch() -> None:
    program = (
        "import sys, swarm; swarm.SwarmError, swarm.NodeConfig, swarm.Join, swarm.open_ledger;"
        "print([m for m in ('torch', 'libp2p') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_says_what_it_is(name: str) -> None:
    thing = getattr(swarm, name)
    assert inspect.getdoc(thing)
    if name in {"Node", "Ledger", "Join", "Launch", "Resume"}:
        for member, value in members(thing).items():
            if isinstance(value, property) or inspect.isfunction(value):
                assert inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.parametrize("name", ["open_node", "open_ledger"])
def test_functions_say_what_they_take_give_and_raise(name: str) -> None:
    doc = inspect.getdoc(getattr(swarm, name)) or ""
    assert all(f"\n{section}\n" in doc for section in SECTIONS)
    arguments = inspect.signature(getattr(swarm, name)).parameters
    assert all(re.search(rf"^ +{argument}: ", doc, re.MULTILINE) for argument in arguments)


@pytest.mark.parametrize("kind", [swarm.Node, swarm.Ledger, swarm.Join, swarm.Launch])
def test_methods_with_arguments_describe_them(kind: type) -> None:
    for name, value in {**members(kind), "__init__": kind.__init__}.items():  # type: ignore[misc]
        doc = inspect.getdoc(value) or ""
        if inspect.isfunction(value) and "Args:" in doc:
            described = set(re.findall(r"^    (\w+): ", doc.partition("Args:")[2], re.MULTILINE))
            arguments = set(inspect.signature(value).parameters) - {"self"}
            assert arguments <= described, f"{kind.__name__}.{name}"


def test_type_checkers_see_the_types() -> None:
    assert (ROOT / "swarm" / "py.typed").is_file()
    hints = inspect.get_annotations(swarm.open_node)
    assert set(inspect.signature(swarm.open_node).parameters) < set(hints)


def test_the_page_of_the_api_is_what_the_docstrings_say() -> None:
    assert api_docs.PAGE.read_text("utf-8") == api_docs.drawn(), "run scripts/api_docs.py --write"


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_python_in_the_documents_compiles_and_uses_names_that_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        compile(block, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        assert set(re.findall(r"\bswarm\.(\w+)", block)) <= set(NAMES)
        assert set(re.findall(r"\bnode\.(\w+)", block)) <= set(members(swarm.Node))
        assert set(re.findall(r"\bledger\.(\w+)", block)) <= set(members(swarm.Ledger))
