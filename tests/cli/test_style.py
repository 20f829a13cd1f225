"""Columns line up whatever the colours, and numbers read well."""

import math

import pytest

from swarm.cli.style import Ink, counted, human_bytes, human_count, human_span, pad, table, width_of


def test_colour_is_off_unless_wanted() -> None:
    """Plain ink changes nothing; colour wraps the same words."""
    assert Ink().paint("ok", "fine") == "fine"
    assert Ink(True).paint("ok", "fine") == "\x1b[32mfine\x1b[0m"
    assert Ink(True).paint("ok", "") == ""


def test_width_ignores_colours_and_counts_wide_letters_twice() -> None:
    """What the terminal shows is what counts."""
    assert width_of(Ink(True).paint("gone", "abc")) == 3
    assert width_of("日本") == 4
    assert pad("ab", 4) == "ab  "
    assert pad("ab", 4, right=True) == "  ab"
    assert pad("abcde", 4) == "abcde"


def test_a_table_is_aligned() -> None:
    """Numbers to the right, words to the left, no spaces at the end."""
    lines = table(["peer", "n"], [["otter", "5"], ["x", "1234"]], numbers=frozenset({1}), ink=Ink())
    assert lines == ["peer      n", "otter     5", "x      1234"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (940, "940"),
        (12400, "12 400"),
        (1.24e6, "1.24M"),
        (3e9, "3.00G"),
        (None, "-"),
        (True, "-"),
        (math.nan, "-"),
    ],
)
def test_counts_read_well(value: object, shown: str) -> None:
    """Unknown is a dash."""
    assert human_count(value) == shown


def test_one_is_not_many() -> None:
    assert [counted(n, "peer") for n in (0, 1, 2, 12_400)] == [
        "0 peers",
        "1 peer",
        "2 peers",
        "12 400 peers",
    ]


def test_spans_and_sizes_read_well() -> None:
    """Seconds, minutes, hours; bytes to gigabytes."""
    assert [human_span(s) for s in (14, 184, 7800, 900_000, -1)] == [
        "14 s",
        "3 min 4 s",
        "2 h 10 min",
        "10 d 10 h",
        "0 s",
    ]
    assert [human_bytes(b) for b in (12, 12_000, 3.4e6, 2e9, "x")] == [
        "12 B",
        "12 kB",
        "3.4 MB",
        "2.0 GB",
        "-",
    ]
