"""A table of peers fits the terminal, and text gives way before a number does."""

import re

import pytest

from swarm.cli.style import Ink, width_of
from swarm.cli.views import map_lines, peer_table
from tests.web.snapshots import a_checked_snapshot, a_snapshot, a_state, peer_of

INK = Ink()


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("paint", [False, True])
def test_a_narrow_map_keeps_every_number_of_every_peer(columns: int, paint: bool) -> None:
    """Bars, paths, reasons and at last names give way; a number is never cut."""
    document = a_checked_snapshot()
    lines = map_lines(a_state(document), Ink(paint), columns)
    assert max(map(width_of, lines)) <= columns
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert any({"rtt", "tok/s", "trades", "audits"} <= set(line.split()) for line in plain)
    for peer in a_state(document).peers:
        row = next(x for x in plain if peer.name[:11] in x and x[0] in "●▲✕⊘○")
        assert peer.me or peer.rtt_ms is None or f"{peer.rtt_ms} ms" in row
        if peer.seats and peer.tokens_per_s is not None:
            assert f"{peer.tokens_per_s:,}".replace(",", " ") in row
            assert f" {peer.trades} " in row
    assert any("12/12" in line for line in plain)


@pytest.mark.parametrize("columns", [60, 80, 120, 160])
def test_a_narrow_list_of_peers_keeps_every_number(columns: int) -> None:
    """As a table where it fits, as some lines per peer where it does not."""
    state = a_state(a_checked_snapshot())
    lines = peer_table(state, INK, columns)
    assert max(map(width_of, lines)) <= columns
    for peer in state.peers:
        at = next(i for i, line in enumerate(lines) if peer.name[:11] in line)
        end = next((i for i in range(at + 1, len(lines)) if lines[i][0] in "●▲✕⊘○"), len(lines))
        block = "  ".join(lines[at:end])
        assert peer.tokens_per_s is None or f"{peer.tokens_per_s:,}".replace(",", " ") in block
        assert f"{peer.up_bytes / 1e6:.1f} MB" in block
        assert f"{peer.trades}" in block
        assert peer.round is None or f"{peer.round}" in block


def test_many_stages_are_listed_where_their_lanes_do_not_fit() -> None:
    document = a_snapshot()
    document["peers"] = [peer_of(i, seats=[(i, 0), (i + 1, 0)]) for i in range(30)]
    lines = map_lines(a_state(document), INK, 80)
    assert max(map(width_of, lines)) <= 80
    assert any(" 7,8 " in line for line in lines)
