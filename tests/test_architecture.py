"""The house keeps its own rules: kinds, stairs, doors, maps and sizes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "swarm"
MAY_LOOK_INTO: dict[str, set[str]] = {  # room -> rooms whose cores and doors it may import
    "host": set(),  # an adapter of the hallway, and a folder
    "dht": {"host"},
    "gossip": {"host", "dht"},
    "training": {"host", "dht", "gossip"},
    "ledger": {"host", "dht", "gossip"},
    "verify": {"host", "dht", "gossip", "training", "ledger"},
}
COMPOSERS = ("node/", "cli/", "web/")  # the only folders that may see every room
DOORS = {
    "libp2p": ("host/", "dht/service.py"),
    "multiaddr": ("host/", "dht/service.py"),
    "nacl": ("primitives/crypto.py", "primitives/vrf.py"),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "zstandard": ("gossip/codecs/int8.py",),
    "sqlite3": ("store.py",),
    "msgspec": ("primitives/codec.py",),
    "tokenizers": ("training/data/tokenizer.py",),
    "pyarrow": ("training/data/parquet.py",),
    "pydantic": ("config/load.py", "config/schema.py"),
    "starlette": ("web/",),
    "hypercorn": ("web/",),
    "hivemind": (),
}
EFFECTS = frozenset(
    """asyncio importlib io logging os pathlib random secrets select signal socket
    subprocess tempfile threading time trio""".split()
)
PATHS = [path for path in HOUSE.rglob("*.py") if "__pycache__" not in path.parts]
MODULES = {p.relative_to(HOUSE).as_posix(): ast.parse(p.read_text("utf-8")) for p in sorted(PATHS)}
ROOM_MODULES = sorted(here for here in MODULES if not here.endswith("__init__.py"))
FOLDERS = sorted({here.rpartition("/")[0] for here in ROOM_MODULES if "/" in here})


def kind(here: str) -> str:
    if here.endswith("__init__.py"):
        return "map"
    lines = (ast.get_docstring(MODULES[here]) or "").splitlines()
    kinds = [line.split(":")[0] for line in lines if line.startswith(("Core:", "Shell:"))]
    assert len(kinds) == 1, f"{here} must say 'Core:' or 'Shell:' exactly once"
    return kinds[0].lower()


def imported_names(here: str) -> Iterator[str]:
    for node in ast.walk(MODULES[here]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{here}: write imports from the front door, never relative"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(here: str) -> set[str]:
    """The files of this house that ``here`` imports."""
    found: set[str] = set()
    for name in imported_names(here):
        path = name.removeprefix("swarm.").replace(".", "/") if name.startswith("swarm.") else ""
        parent = path.rpartition("/")[0]
        found |= {c for c in (f"{path}.py", f"{parent}.py", f"{path}/__init__.py") if c in MODULES}
    return found


def functions(here: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(MODULES[here]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("here", ROOM_MODULES)
def test_a_module_opens_with_one_sentence_and_its_kind(here: str) -> None:
    first, *rest = (ast.get_docstring(MODULES[here]) or "").splitlines()
    assert first.endswith((".", "?", "``")), f"{here}: one sentence first"
    assert rest, f"{here}: then its kind"
    assert rest[0] == ""
    assert kind(here) in {"core", "shell"}


@pytest.mark.parametrize("here", ROOM_MODULES)
def test_a_core_has_no_way_out(here: str) -> None:
    if kind(here) == "core":
        assert not {name.split(".")[0] for name in imported_names(here)} & EFFECTS
        assert not {other for other in imported_modules(here) if kind(other) == "shell"}
        awaits = [node for node in ast.walk(MODULES[here]) if isinstance(node, ast.Await)]
        assert not awaits, f"{here}: an await in a core"


@pytest.mark.parametrize("here", ROOM_MODULES)
def test_imports_go_down_the_stairs(here: str) -> None:
    room = here.split("/", maxsplit=1)[0] if "/" in here else ""
    for other in imported_modules(here):
        into = other.split("/")[0] if "/" in other else ""
        if into and not here.startswith(COMPOSERS):
            assert room, f"{here} is in the hallway and may not look into {into}"
            assert into in {room} | MAY_LOOK_INTO[room], f"{room} may not look into {into}"
        assert into != "cli" or room == "cli", f"{here} may not look at the face of the house"


@pytest.mark.parametrize("here", ROOM_MODULES)
def test_another_room_is_entered_by_its_door(here: str) -> None:
    """A shell of another room is imported from its service.py; host is an adapter with several."""
    mine = here.split("/", maxsplit=1)[0]
    for other in imported_modules(here):
        room, _, module = other.rpartition("/")
        if room not in {"", "host", mine} and not here.startswith(COMPOSERS):
            assert kind(other) != "shell" or module == "service.py", f"{other} is not a door"


@pytest.mark.parametrize("here", ROOM_MODULES)
def test_each_dependency_has_one_door(here: str) -> None:
    for name in imported_names(here):
        doors = DOORS.get(name.split(".")[0])
        assert doors is None or here.startswith(doors), f"{name} has another door: {doors}"


def test_no_import_cycles() -> None:
    TopologicalSorter({here: imported_modules(here) - {here} for here in MODULES}).prepare()


@pytest.mark.parametrize("here", ROOM_MODULES)
def test_a_module_fits_in_the_mind_and_a_function_on_the_screen(here: str) -> None:
    assert (HOUSE / here).read_text("utf-8").count("\n") <= 350
    for node in functions(here):
        assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} in {here}"


@pytest.mark.parametrize("here", ROOM_MODULES)
def test_nobody_catches_everything(here: str) -> None:
    """Two doors may, and say why: a stranger's message must not end the process, and one library raises
    nothing narrower.
    """
    lines = (HOUSE / here).read_text("utf-8").splitlines()
    for node in ast.walk(MODULES[here]):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else ""
            if not caught or caught == "Exception":
                doors = ("host/", "training/data/tokenizer.py")
                assert here.startswith(doors), f"{here}:{node.lineno} catches everything"
                near = "\n".join(lines[node.lineno - 2 : node.body[0].end_lineno])
                assert "#" in near, f"{here}:{node.lineno} does not say why"


@pytest.mark.parametrize("here", sorted(MODULES))
def test_nothing_is_left_for_later(here: str) -> None:
    text = (HOUSE / here).read_text("utf-8")
    for word in ("TODO", "FIXME", "XXX", "HACK"):
        assert word not in text, f"{here} says {word}"
    for node in functions(here):
        last = node.body[-1]
        if isinstance(last, ast.Raise) and last.exc is not None:
            assert "NotImplementedError" not in ast.unparse(last.exc), f"{node.name} is a stub"


@pytest.mark.parametrize("here", [h for h in ROOM_MODULES if kind(h) == "core"])
def test_a_core_never_iterates_over_a_set(here: str) -> None:
    for node in ast.walk(MODULES[here]):
        if isinstance(node, ast.For | ast.comprehension):
            over = node.iter
            made = isinstance(over, ast.Call) and ast.unparse(over.func) in {"set", "frozenset"}
            where = getattr(over, "lineno", 0)
            assert not made, f"{here}:{where} iterates over a set"
            assert not isinstance(over, ast.Set | ast.SetComp), (
                f"{here}:{where} iterates over a set"
            )


@pytest.mark.parametrize("room", FOLDERS)
def test_the_map_on_the_wall_is_true(room: str) -> None:
    """A folder inside a room has a map of its own."""
    doc = ast.get_docstring(MODULES[f"{room}/__init__.py"]) or ""
    drawn = {tuple(line.split()[:2]) for line in doc.splitlines() if ".py " in line}
    letter = {"core": "C", "shell": "S"}
    inside = [h.rpartition("/") for h in ROOM_MODULES]
    built = {(name, letter[kind(f"{room}/{name}")]) for here, _, name in inside if here == room}
    assert drawn == built


@pytest.mark.parametrize("room", FOLDERS)
def test_a_rooms_front_holds_nothing_but_its_map(room: str) -> None:
    assert len(MODULES[f"{room}/__init__.py"].body) == 1


@pytest.mark.parametrize("here", [h for h in ROOM_MODULES if kind(h) == "core"])
def test_every_core_is_tested_where_you_would_look(here: str) -> None:
    room, _, module = here.rpartition("/")
    assert (HOUSE.parent / "tests" / (room or "hallway") / f"test_{module}").is_file()


def test_the_table_in_architecture_is_the_house() -> None:
    drawn = subprocess.run(
        [sys.executable, str(HOUSE.parent / "scripts" / "draw_map.py")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    text = (HOUSE.parent / "ARCHITECTURE.md").read_text("utf-8")
    assert drawn.strip() in text, "run scripts/draw_map.py --write"
