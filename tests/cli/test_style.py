"""Columns line up whatever the colours, and numbers read well."""

import math

import pytest

from swarm.cli.style import (
    Ink,
    counted,
    cut,
    fitted,
    human_bytes,
    human_count,
    human_span,
    one_line,
    pad,
    table,
    width_of,
    wrapped,
)


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


def test_a_text_is_cut_with_an_ellipsis_and_keeps_its_colour() -> None:
    assert cut("otter", 5) == "otter"
    assert cut("otters", 5) == "otte…"
    assert cut(Ink(True).paint("gone", "otters"), 4) == "\x1b[31mott…\x1b[0m"
    assert width_of(cut("日本語", 4)) <= 4


def test_only_columns_that_may_be_cut_are() -> None:
    """First the space between them gives way, then there is no such table."""
    heads, rows = ["peer", "n"], [["a-long-name", "12 345"]]

    def lines(columns: int) -> list[str] | None:
        return fitted(
            heads, rows, numbers=frozenset({1}), cuts=[(0, 4)], columns=columns, ink=Ink()
        )

    assert lines(19) == ["peer              n", "a-long-name  12 345"]
    assert lines(12) == ["peer       n", "a-l…  12 345"]
    assert lines(11) == ["peer      n", "a-l… 12 345"]
    assert lines(10) is None


def test_bits_are_wrapped_or_left_out_and_never_cut() -> None:
    bits = ["round 3", "loss 2.1", "7 peers"]
    assert wrapped(bits, 18) == ["round 3  loss 2.1", "7 peers"]
    assert wrapped(bits, 3, indent=" ") == [" round 3", " loss 2.1", " 7 peers"]
    assert one_line(bits, 40, least=[1, 2]) == "round 3  loss 2.1  7 peers"
    assert one_line(bits, 20, least=[1, 2]) == "round 3  7 peers"
    assert one_line(bits, 3, least=[1, 2]) == "round 3"
