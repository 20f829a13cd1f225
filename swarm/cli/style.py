"""Format text for a terminal: colours, columns, numbers.

Core: text in, text out. Colour only repeats what the words already say.
"""

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

_CODES = {
    "ok": "32",
    "slow": "33",
    "gone": "31",
    "out": "31",
    "busy": "34",
    "dim": "2",
    "bold": "1",
    "head": "1;36",
}
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Ink:
    """Painter of text; paints only if the stream is a terminal that wants it."""

    is_on: bool = False

    def paint(self, style: str, text: str) -> str:
        """Return the text in a style: ok, slow, gone, out, busy, dim, bold or head."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.is_on and text else text


def width_of(text: str) -> int:
    """Return the columns that the text takes, without its colours."""
    plain = _ESCAPES.sub("", text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in plain)


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Fill the text up with spaces; never cut it."""
    space = " " * max(0, columns - width_of(text))
    return space + text if right else text + space


def cut(text: str, columns: int) -> str:
    """Return the text in at most so many columns, an ellipsis at its end if some is missing; colour stays."""
    if width_of(text) <= columns:
        return text
    paint = _ESCAPES.match(text)
    kept, used = "", 0
    for character in _ESCAPES.sub("", text):
        used += width_of(character)
        if used > max(columns - 1, 0):
            break
        kept += character
    kept += "…" if columns > 0 else ""
    return f"{paint[0]}{kept}\x1b[0m" if paint and kept else kept


def table(
    heads: list[str], rows: list[list[str]], *, numbers: frozenset[int], ink: Ink
) -> list[str]:
    """Align rows in columns; the columns in ``numbers`` are aligned to the right."""
    return _lines(heads, rows, _widths(heads, rows), numbers, ink, 2)


def fitted(
    heads: list[str],
    rows: list[list[str]],
    *,
    numbers: frozenset[int],
    cuts: list[tuple[int, int]],
    columns: int,
    ink: Ink,
) -> list[str] | None:
    """Return the table in ``columns``, or None if it does not fit.

    ``cuts`` names the columns of text that may be cut, in this order, each with the width that it keeps.
    """
    for gap in (2, 1):
        widths = _widths(heads, rows)
        excess = sum(widths) + gap * (len(widths) - 1) - columns
        for index, least in cuts:
            removed = min(max(excess, 0), max(widths[index] - least, 0))
            widths[index] -= removed
            excess -= removed
        if excess <= 0:
            return _lines(heads, rows, widths, numbers, ink, gap)
    return None


def _widths(heads: list[str], rows: list[list[str]]) -> list[int]:
    return [
        max([width_of(heads[i]), *(width_of(row[i]) for row in rows)]) for i in range(len(heads))
    ]


def _lines(
    heads: list[str],
    rows: list[list[str]],
    widths: list[int],
    numbers: frozenset[int],
    ink: Ink,
    gap: int,
) -> list[str]:
    def line(cells: list[str]) -> str:
        fitting = (cut(cell, widths[i]) for i, cell in enumerate(cells))
        padded = [pad(cell, widths[i], right=i in numbers) for i, cell in enumerate(fitting)]
        return (" " * gap).join(padded).rstrip()

    return [ink.paint("dim", line(heads)), *(line(row) for row in rows)]


def wrapped(bits: Iterable[str], columns: int, *, indent: str = "", gap: str = "  ") -> list[str]:
    """Return the bits in lines of at most ``columns``; no bit is cut or broken."""
    lines = list[str]()
    for bit in bits:
        longer = f"{lines[-1]}{gap}{bit}" if lines else indent + bit
        if lines and width_of(longer) > columns:
            lines.append(indent + bit)
        elif lines:
            lines[-1] = longer
        else:
            lines.append(longer)
    return lines


def one_line(bits: list[str], columns: int, *, least: list[int]) -> str:
    """Join the bits in one line; bits that do not fit are left out, those in ``least`` first, never cut."""
    left_out, line = set[int](), "  ".join(filter(None, bits))
    for index in least:
        if width_of(line) <= columns:
            break
        left_out.add(index)
        line = "  ".join(bit for i, bit in enumerate(bits) if bit and i not in left_out)
    return line


def human_count(value: object) -> str:
    """Format a count: ``940``, ``12 400``, ``1.24M``; a dash if unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    if not math.isfinite(value):
        return "-"
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.2f}{unit}"
    return f"{round(value):,}".replace(",", " ")


def counted(count: int, noun: str) -> str:
    """Format a count with its noun: ``1 stage``, ``2 stages``, ``12 400 tokens``."""
    return f"{human_count(count)} {noun}{'s' * (count != 1)}"


def human_span(seconds: float) -> str:
    """Format seconds: ``14 s``, ``3 min 4 s``, ``2 h 10 min``, ``10 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def human_bytes(value: object) -> str:
    """Format bytes: ``12 kB``, ``3.4 MB``; a dash if unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value / 1e3:.0f} kB" if value >= 1e3 else f"{round(value)} B"
