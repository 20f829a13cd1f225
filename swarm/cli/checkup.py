"""Judge what ``swarm doctor`` found on this machine, and take out of a report what is nobody else's business.

Core: facts in, findings and texts out; ``commands/doctor.py`` looks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from swarm.cli.style import Ink, counted, human_bytes, human_span, pad
from swarm.events import Event, EventKind, printable
from swarm.limits import Memory
from swarm.node.api.schema import NodeRow

NODE_BYTES = 600 << 20
"""Bytes of a node that holds no shard: Python, torch, the libraries."""
SKEW_S = 120.0
"""Seconds that a clock may be behind what this home saw before: files and events are not from the future."""
SHOWN_MAX = 3
TEXT_CHARS_MAX = 300
YEAR_2026 = 1_767_225_600
"""A clock before this was never set: nothing of this program is older."""


class State(StrEnum):
    """States of a check."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check: a state, one sentence, and the action that mends it, if it needs one."""

    name: str
    state: State
    text: str
    hint: str = ""

    @property
    def row(self) -> dict[str, str]:
        """The finding as an object of ``--json``."""
        return {"check": self.name, "state": self.state, "text": self.text, "hint": self.hint}


def good(name: str, text: str) -> Finding:
    """Return a finding with nothing to mend."""
    return Finding(name, State.GOOD, text)


def warning(name: str, text: str, hint: str) -> Finding:
    """Return a finding of something that works, and could be better."""
    return Finding(name, State.WARNING, text, hint)


def bad(name: str, text: str, hint: str) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(name, State.BAD, text, hint)


def finding_lines(findings: Sequence[Finding], ink: Ink) -> list[str]:
    """Return a line for each finding, one with its remedy below it where there is one, and the sum."""
    styles = {State.GOOD: "ok", State.WARNING: "slow", State.BAD: "gone"}
    lines = list[str]()
    for found in findings:
        mark = ink.paint(styles[found.state], pad(found.state, 8))
        lines.append(f"{mark} {pad(found.name, 9)} {found.text}")
        if found.hint:
            lines.append(f"{'':18} try: {found.hint}")
    counts = [sum(found.state is state for found in findings) for state in State]
    return [*lines, f"{counts[0]} good, {counted(counts[1], 'warning')}, {counts[2]} bad"]


def judge_python(version: tuple[int, ...], *, is_known_system: bool) -> Finding:
    """Judge the version of Python, and the system."""
    text = f"Python {'.'.join(map(str, version[:3]))}"
    if version < (3, 11):
        return bad("python", f"{text} is too old", "install Python 3.11 or newer")
    if not is_known_system:
        return warning("python", f"{text}, on a system that is not tested", "Linux, macOS, or WSL")
    return good("python", text)


def judge_packages(pins: Mapping[str, str], installed: Mapping[str, str]) -> Finding:
    """Judge what is installed by the versions that are tested together; a build (+cpu) of one is the same."""
    others = [
        f"{name} {installed[name]} ({pin} is tested)"
        for name, pin in sorted(pins.items())
        if name in installed and installed[name].partition("+")[0] != pin
    ]
    if others:
        more = f", and {len(others) - SHOWN_MAX} more" if len(others) > SHOWN_MAX else ""
        hint = "pip install -c constraints.txt -e .   (in the folder of the source)"
        return warning("packages", ", ".join(others[:SHOWN_MAX]) + more, hint)
    if not pins:
        return good(
            "packages", f"{len(installed)} installed; the list of tested versions is not here"
        )
    return good("packages", f"{len(installed)} installed, with the versions that are tested")


def judge_memory(memory: Memory) -> Finding:
    """Judge the memory by a node that holds no shard; a run says by itself what it takes."""
    if memory.num_bytes < NODE_BYTES:
        hint = memory.remedy or "another machine"
        return bad("memory", f"{memory.text}, too little for a node", hint)
    if memory.num_bytes < 3 * NODE_BYTES:
        hint = f"{memory.remedy or 'a smaller run'}; swarm launch --dry-run says what a run takes"
        return warning("memory", f"{memory.text}: enough for small runs", hint)
    return good("memory", memory.text)


def judge_cores(cores: float, threads: int) -> Finding:
    """Judge the cores by the threads that the node file asks for."""
    text = f"{cores:g} core{'s' * (cores != 1)} for this process"
    if cores < 1:
        return warning(
            "cores", f"{text}: it will be late in rounds", "docker run --cpus 1, or more"
        )
    if threads > cores:
        return warning(
            "cores", f"{text}, and threads = {threads}", f"threads = {int(cores)} in node.toml"
        )
    return good("cores", text)


def judge_room(free: int, quota_mb: int, folder: str) -> Finding:
    """Judge the room on the disk of the home by what the node may keep there."""
    text = f"{human_bytes(free)} free on the disk of {folder}"
    if free < 64 << 20:
        return bad("disk", f"{text}: a node would rest", f"df -h {folder}; and free some room")
    if free < quota_mb << 20:
        hint = f"free some, or disk_quota_mb = {max(free >> 21, 100)} in node.toml"
        return warning("disk", f"{text}, and the node may use {human_bytes(quota_mb << 20)}", hint)
    return good("disk", text)


def judge_clock(now_s: float, seen_s: float, *, is_synchronized: bool | None) -> Finding:
    """Judge the clock by what this home saw before: ``seen_s`` is the newest time in it, 0 for none."""
    if now_s < YEAR_2026:
        return bad("clock", "the clock was never set", "timedatectl set-ntp true")
    if seen_s > now_s + SKEW_S:
        late = human_span(seen_s - now_s)
        return bad(
            "clock", f"the clock is {late} behind what this home saw", "timedatectl set-ntp true"
        )
    if is_synchronized is False:
        return warning("clock", "the clock is not synchronized", "timedatectl set-ntp true")
    return good("clock", "synchronized" if is_synchronized else "not behind what this home saw")


def judge_reach(node: NodeRow | None) -> Finding:
    """Judge who can dial the node that runs here; None if none runs."""
    if node is None:
        return good("reach", "known while a node runs here")
    if node.reach == "nobody":
        return warning(
            "reach",
            "no peer can dial this node; it takes part all the same",
            "forward its TCP port at the router, and set announce in node.toml",
        )
    if node.reach == "machine":
        return warning("reach", node.reach_text, "swarm join --listen 0.0.0.0:4001")
    return good("reach", node.reach_text or "nobody has tried to dial this node yet")


def judge_errors(events: Sequence[Event], traces: Sequence[str]) -> Finding:
    """Judge the newest events of the home, and the traces of what should not have happened."""
    grave = [event for event in events if event.kind == EventKind.ERROR.value]
    mild = [event for event in events if event.kind == EventKind.WARNING.value]
    if traces:
        return warning(
            "errors",
            f"{counted(len(traces), 'trace')} of what should not have happened, the newest {traces[-1]}",
            "swarm doctor --bundle FILE, for a bug report; then delete them",
        )
    if grave:
        last = printable(grave[-1].text, TEXT_CHARS_MAX)
        return warning("errors", f"{len(grave)} of the newest events: {last}", "swarm status")
    if mild:
        return good(
            "errors",
            f"none; {counted(len(mild), 'warning')} in the newest {counted(len(events), 'event')}",
        )
    return good("errors", "none" if events else "no node has run here yet")


def judge_kernels(answer: Mapping[str, object] | None, *, is_late: bool) -> Finding:
    """Judge the self-test of the exact kernels, which another process has made."""
    rebuild = "pip install -e .   (with gcc or clang installed, in the folder of the source)"
    if is_late:
        return warning("kernels", "the self-test took too long here", "run it on a quieter machine")
    if answer is None:
        return bad("kernels", "the self-test ended without an answer", rebuild)
    if answer.get("error"):
        text = printable(str(answer["error"]), TEXT_CHARS_MAX)
        return bad("kernels", text, "reinstall the pinned torch and numpy: pip install -e .")
    if answer.get("notice"):
        text = (
            "no compiled kernels: exact runs are computed by the reference, a hundred times slower"
        )
        return warning("kernels", text, rebuild)
    missing = [name for name in ("tree", "levels") if not answer.get(name)]
    if missing:
        return warning("kernels", f"not compiled: {', '.join(missing)}", rebuild)
    return good("kernels", f"{answer.get('name')}, and every bit of the self-test is right")


_TICKETS = re.compile(r"swarm1:\S+")
_LONG_HEX = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{40,}(?![0-9A-Za-z])")
_MULTIADDRESSES = re.compile(
    r"/(?:ip4|ip6|dns|dns4|dns6)/[^\s\"',;/]+(?:/[a-z0-9]+/[^\s\"',;/]+)*(?<!:)"
)
_PEER_IDS = re.compile(r"\b(?:12D3KooW|16Uiu2|Qm)[1-9A-HJ-NP-Za-km-z]{20,}")
_IP4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\d.])")
_IP6 = re.compile(r"(?<![0-9A-Za-z:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![0-9A-Za-z:])")
_HOSTS = re.compile(r"(?<![\w.-])(?:[A-Za-z0-9-]+\.)+[A-Za-z][A-Za-z0-9-]*:\d{1,5}\b")
_URLS = re.compile(r"\b[a-z]{2,8}://[^\s\"'<>]+")
_PATHS = re.compile(r"(?<![\w\].])(?:~[\w-]*|\.{1,2})?/[^\s\"',;:()<>|]+")
_INSIDE = re.compile(r"\[home\](/[^\s\"',;:()<>|]*)?")


def redacted(text: str, home: str, secrets: Sequence[str] = ()) -> str:
    """Return a text without secrets, tickets, long numbers in hex, addresses, and paths outside the home."""
    for secret in filter(None, secrets):
        text = re.sub(re.escape(secret), "[secret]", text, flags=re.IGNORECASE)
    if home.rstrip("/"):
        text = re.sub(rf"{re.escape(home.rstrip('/'))}(?![\w.-])", "[home]", text)
        text = _INSIDE.sub(_inside, text)
    for pattern, word in (
        (_TICKETS, "[ticket]"),
        (_URLS, "[url]"),
        (_MULTIADDRESSES, "[address]"),
        (_PEER_IDS, "[peer]"),
        (_LONG_HEX, "[hex]"),
        (_HOSTS, "[address]"),
        (_IP4, "[address]"),
        (_IP6, "[address]"),
    ):
        text = pattern.sub(word, text)
    return _PATHS.sub("[path]", text)


def _inside(found: re.Match[str]) -> str:
    """Return a path in the home as it is, and one that leads out of it again as one outside."""
    return "[path]" if ".." in (found[1] or "").split("/") else found[0]
