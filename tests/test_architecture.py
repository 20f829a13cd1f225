"""The code keeps its own rules: kinds, layers, doors, maps, sizes and English."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SWARM = ROOT / "swarm"
LAYERS: dict[str, set[str]] = {  # package -> packages whose cores and doors it may import
    "primitives": set(),
    "config": {"primitives"},
    "host": {"primitives", "config"},
    "dht": {"primitives", "config", "host"},
    "gossip": {"primitives", "config", "host", "dht"},
    "training": {"primitives", "config", "host", "dht", "gossip"},
    "ledger": {"primitives", "config", "host", "dht", "gossip"},
    "verify": {"primitives", "config", "host", "dht", "gossip", "training", "ledger"},
}
TOP = {"primitives", "config"}  # the modules directly in swarm/ may import these, and each other
COMPOSERS = ("node/", "cli/", "web/")  # the only packages that may import every other
TEST_HELP = "testing/"  # imported by tests and benchmarks alone
DOORS = {
    "libp2p": ("host/", "dht/service.py"),
    "multiaddr": ("host/", "dht/service.py"),
    "nacl": ("primitives/crypto.py", "primitives/vrf.py"),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "zstandard": ("gossip/codecs/int8.py", "training/data/packed.py"),
    "sqlite3": ("store.py",),
    "msgspec": ("primitives/codec.py",),
    "tokenizers": ("training/data/tokenizer.py",),
    "pyarrow": ("training/data/parquet.py",),
    "pydantic": ("config/load.py", "config/schema.py"),
    "starlette": ("web/",),
    "hypercorn": ("web/",),
    "hivemind": (),
    "eth_account": ("ledger/settle/contract.py",),
    "eth_abi": ("ledger/settle/contract.py",),
    "eth_utils": ("ledger/settle/contract.py", "testing/evm.py"),
    "eth_keys": ("ledger/settle/contract.py",),
    "eth_tester": ("testing/evm.py",),
    "resource": ("machine.py",),
}
EFFECTS = frozenset(
    """asyncio importlib io logging os pathlib random secrets select signal socket
    subprocess tempfile threading time trio""".split()
)
LATE = {"ledger/transition/court.py": frozenset({"importlib"})}
"""Cores that name one module above them. All replicas of the ledger must have the same court: a parameter that
is forgotten in one place would split them."""
PATHS = [path for path in SWARM.rglob("*.py") if "__pycache__" not in path.parts]
MODULES = {p.relative_to(SWARM).as_posix(): ast.parse(p.read_text("utf-8")) for p in sorted(PATHS)}
CODE = sorted(here for here in MODULES if not here.endswith("__init__.py"))
PACKAGES = sorted({here.rpartition("/")[0] for here in CODE if "/" in here})
LINES_MAX = 600
FUNCTION_LINES_MAX = 60
FIELDS_BY_POSITION_MAX = 5
MODULES_MAX = (
    400  # 277 before moves, evidence, GPU kernels, demands, storage, ways in, relays, news, paces
)
"""More files than this, and ideas are being cut by the ruler."""


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
    """The files that ``here`` imports."""
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


@pytest.mark.parametrize("here", CODE)
def test_a_module_opens_with_one_sentence_and_its_kind(here: str) -> None:
    first, *rest = (ast.get_docstring(MODULES[here]) or "").splitlines()
    assert first.endswith((".", "?", "``")), f"{here}: one sentence first"
    assert rest, f"{here}: then its kind"
    assert rest[0] == ""
    assert kind(here) in {"core", "shell"}


@pytest.mark.parametrize("here", CODE)
def test_a_core_has_no_way_out(here: str) -> None:
    if kind(here) == "core":
        ways = {name.split(".")[0] for name in imported_names(here)} & EFFECTS
        assert ways <= LATE.get(here, frozenset())
        assert not {other for other in imported_modules(here) if kind(other) == "shell"}
        awaits = [node for node in ast.walk(MODULES[here]) if isinstance(node, ast.Await)]
        assert not awaits, f"{here}: an await in a core"


def package_of(here: str) -> str:
    return here.split("/", maxsplit=1)[0] if "/" in here else ""


@pytest.mark.parametrize("here", CODE)
def test_imports_go_down_the_layers(here: str) -> None:
    mine = package_of(here)
    for other in imported_modules(here):
        into = package_of(other)
        if here.startswith((*COMPOSERS, TEST_HELP)):
            assert into != "cli" or mine == "cli", f"{here} imports the command line"
        elif into:
            assert into in {mine} | LAYERS.get(mine, TOP), f"{here} may not import {other}"
        assert into != "testing" or mine == "testing", f"{here} imports help for tests"


@pytest.mark.parametrize("here", CODE)
def test_another_package_is_entered_by_its_door(here: str) -> None:
    """A shell of another package is imported from a service.py; host is an adapter with several doors."""
    mine = package_of(here)
    for other in imported_modules(here):
        if package_of(other) not in {"", "host", mine} and not here.startswith(COMPOSERS):
            is_door = other.endswith("/service.py") or other == "config/resources.py"
            assert kind(other) != "shell" or is_door, f"{here}: {other} is not a door"


@pytest.mark.parametrize("here", CODE)
def test_each_dependency_has_one_door(here: str) -> None:
    for name in imported_names(here):
        doors = DOORS.get(name.split(".")[0])
        assert doors is None or here.startswith(doors), f"{name} has another door: {doors}"


MACHINES = re.compile(
    r"\b(?:cpu_count|sched_getaffinity|process_cpu_count|disk_usage|statvfs|SC_PHYS_PAGES|meminfo)\b"
)


@pytest.mark.rule("N25")
@pytest.mark.parametrize("here", CODE)
def test_the_machine_is_asked_in_one_place(here: str) -> None:
    """A container's limits are seen by who asks there; who asks the kernel himself sees the host."""
    if here not in {"machine.py", "limits.py"}:
        assert not MACHINES.search((SWARM / here).read_text("utf-8")), (
            f"{here}: ask swarm/machine.py"
        )


def test_no_import_cycles() -> None:
    TopologicalSorter({here: imported_modules(here) - {here} for here in MODULES}).prepare()


@pytest.mark.parametrize("here", CODE)
def test_a_module_fits_in_the_mind_and_a_function_on_the_screen(here: str) -> None:
    assert (SWARM / here).read_text("utf-8").count("\n") <= LINES_MAX
    for node in functions(here):
        assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES_MAX, f"{node.name} in {here}"


def wide_records() -> dict[str, int]:
    """Return the number of fields of every record of swarm/ that has more than ``FIELDS_BY_POSITION_MAX``."""
    found = dict[str, int]()
    for tree in MODULES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                marks = " ".join(map(ast.unparse, [*node.bases, *node.decorator_list]))
                is_record = any(word in marks for word in ("Message", "Struct", "dataclass"))
                fields = sum(isinstance(part, ast.AnnAssign) for part in node.body)
                if is_record and fields > FIELDS_BY_POSITION_MAX:
                    found[node.name] = fields
    return found


WIDE = wide_records()


@pytest.mark.parametrize("here", CODE)
def test_a_wide_record_is_built_by_keyword(here: str) -> None:
    """A shape that is unpacked (``*values``) is exempt: its order is the declaration's."""
    for node in ast.walk(MODULES[here]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WIDE:
            is_unpacked = any(isinstance(value, ast.Starred) for value in node.args)
            is_short = len(node.args) <= FIELDS_BY_POSITION_MAX
            assert is_unpacked or is_short, f"{here}:{node.lineno}: {node.func.id} by keyword"


@pytest.mark.parametrize("here", CODE)
def test_nobody_catches_everything(here: str) -> None:
    """Two doors may, and say why: a stranger's message must not end the process, and one library raises
    nothing narrower.
    """
    lines = (SWARM / here).read_text("utf-8").splitlines()
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
    text = (SWARM / here).read_text("utf-8")
    for word in ("TODO", "FIXME", "XXX", "HACK"):
        assert word not in text, f"{here} says {word}"
    for node in functions(here):
        last = node.body[-1]
        if isinstance(last, ast.Raise) and last.exc is not None:
            assert "NotImplementedError" not in ast.unparse(last.exc), f"{node.name} is a stub"


@pytest.mark.parametrize("here", [h for h in CODE if kind(h) == "core"])
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


def test_there_are_no_more_modules_than_ideas() -> None:
    """A file under 100 lines with one importer is a section of that importer, unless it says otherwise."""
    assert len(CODE) <= MODULES_MAX


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_holds_nothing_but_its_map(package: str) -> None:
    assert len(MODULES[f"{package}/__init__.py"].body) == 1


def test_every_package_has_a_true_map() -> None:
    drawn = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "draw_map.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert drawn.returncode == 0, f"{drawn.stdout}run scripts/draw_map.py --write"


@pytest.mark.parametrize("here", [h for h in CODE if kind(h) == "core"])
def test_every_core_is_tested_where_you_would_look(here: str) -> None:
    package, _, module = here.rpartition("/")
    assert (ROOT / "tests" / package / f"test_{module}").is_file()


WH_WORDS = frozenset(
    """What Who Whom Whose Whoever Whatever Where Wherever When Whenever Whether Which Why How""".split()
)
NOT_A_VERB = frozenset(
    """The A An This That These Those Each Every Everybody Everything Everyone Nobody Nothing None Somebody
    Something All Any Some Few Many Most No Not One Two Three It Its They We I You Of For From In On At As By
    To With Without Within If But And Only Also Just So Our Their My Mine Ours""".split()
)


def docstrings(here: str) -> Iterator[tuple[ast.AST, str]]:
    """Docstrings of the module, its classes and functions, and those under fields and constants."""
    for node in ast.walk(MODULES[here]):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node)
            if doc:
                yield node, doc
            for before, after in pairwise(node.body):
                is_field = isinstance(before, ast.Assign | ast.AnnAssign)
                if (
                    is_field
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                ):
                    yield before, str(after.value.value).strip()


def test_no_file_keeps_the_marks_of_a_merge() -> None:
    marks = re.compile(r"^(<{7} |>{7} |={7}$)", re.MULTILINE)
    folders = ("", "docs", "swarm", "tests", "benchmarks", "scripts", "configs")
    found = [
        path
        for folder in folders
        for path in (ROOT / folder).glob("*.*" if not folder else "**/*.*")
    ]
    texts = [path for path in found if path.suffix in {".md", ".py", ".toml", ".txt", ".c", ".sh"}]
    assert len(texts) > 500
    assert [str(path) for path in texts if marks.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize("here", sorted(MODULES))
def test_no_docstring_is_a_riddle(here: str) -> None:
    """A docstring says what a thing is (class: noun phrase) or does (function: verb), not "what is given"."""
    for node, doc in docstrings(here):
        first = re.split(r"\W", doc.lstrip("`*"), maxsplit=1)[0]
        line = f"swarm/{here}:{getattr(node, 'lineno', 1)}: {doc.splitlines()[0]}"
        assert first not in WH_WORDS, line
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_property = any("property" in ast.unparse(d) for d in node.decorator_list)
            assert is_property or first not in NOT_A_VERB, line
