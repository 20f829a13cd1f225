"""The terminal says what the page says, with 2 peers and with 200, and calls nothing well that stands still."""

import re

import pytest

from swarm.cli.state_reader import read_state
from swarm.cli.style import Ink, width_of
from swarm.cli.views import (
    checking,
    conviction_lines,
    find_peer,
    headline,
    health,
    ledger_text,
    links_text,
    map_lines,
    paying,
    peer_lines,
    peer_table,
    run_lines,
    status_lines,
)
from swarm.errors import UsageError
from swarm.node.api.schema import LedgerRow, NodeRow, RunRow, StateDocument
from tests.web.snapshots import (
    a_checked_snapshot,
    a_snapshot,
    a_stalled_snapshot,
    a_state,
    an_ending_snapshot,
    peer_of,
)

INK = Ink()


def with_run(**changes: object) -> StateDocument:
    document = a_snapshot()
    return a_state({**document, "run": {**document["run"], **changes}})  # type: ignore[dict-item]


def test_the_map_shows_every_peer_in_its_lane() -> None:
    """One row per peer, a bar under its stage, what is wrong in words."""
    lines = map_lines(a_state(), INK, 140)
    row = {
        name: next(x for x in lines[3:] if name in x)
        for name in ("hazy-otter", "icy-newt", "mild-heron")
    }
    heads = next(line for line in lines if "stage 0" in line)
    assert row["hazy-otter"].index("█") == heads.index("stage 0")
    assert row["mild-heron"].index("█") == heads.index("stage 1")
    assert "you" in row["hazy-otter"]
    assert row["icy-newt"].endswith("slow: 2 rounds behind")
    assert "degraded: keen-quail-306 gone; icy-newt-042 behind or silent" in lines


def test_one_of_a_kind_is_shown_in_the_singular() -> None:
    document = a_snapshot()
    peers: list[object] = document["peers"]  # type: ignore[assignment]
    run: dict[str, object] = document["run"]  # type: ignore[assignment]
    single = a_state({**document, "peers": peers[:1], "run": {**run, "num_stages": 1}})
    printed = "\n".join([*status_lines(single, INK), *run_lines(single, INK)])
    assert "1 peer," in printed
    assert "1 peer  ledger" in printed
    assert "in 1 stage\n" in printed
    assert "1 peers" not in printed
    assert "1 stages" not in printed


def test_validators_are_marked_by_a_shape() -> None:
    """Not by colour alone."""
    lines = map_lines(a_state(), INK, 120)
    assert "●◆" in next(line for line in lines if "glad-raven" in line)
    assert "◆" not in next(line for line in lines if "hazy-otter" in line)


def test_two_hundred_peers_are_two_hundred_rows() -> None:
    """The map grows by lines, not by columns."""
    document = a_snapshot()
    document["peers"] = [peer_of(i, seats=[(i % 4, i // 4)]) for i in range(200)]
    lines = map_lines(a_state(document), INK, 120)
    assert 204 <= len(lines) <= 206
    assert max(map(width_of, lines)) <= 120


def test_a_convicted_peer_is_marked_by_a_shape_and_in_words() -> None:
    """In the map, in the health line and in the table."""
    lines = map_lines(a_state(a_checked_snapshot()), INK, 160)
    row = next(line for line in lines[3:] if "calm-stoat-008" in line)
    assert row.startswith("⊘")
    assert row.endswith("proven false, evicted")
    assert any("behind or silent; 1 proven false and evicted" in line for line in lines)
    assert "12/12" in next(line for line in lines if "hazy-otter" in line)


def test_how_checking_goes_is_shown_with_the_share_that_was_replayed() -> None:
    """Counts by how a segment ended, then the newest in words; a sampled check is not called a proof."""
    state = a_state(a_checked_snapshot())
    printed = checking(state.run)
    assert printed.startswith(
        "71 of 82 segments passed a sampled check (20% of the steps on record replayed),"
        " 2 proven false, 1 not shown"
    )
    assert printed.endswith("6 under way")
    assert "verified" not in printed
    assert any(printed in line for line in status_lines(state, INK))
    shown = "\n".join(run_lines(state, INK))
    assert printed in shown
    assert "segment 37/0/4 of calm-stoat-008 was proven false by brisk-seal-274" in shown
    assert conviction_lines(a_state()) == []
    assert checking(None) == "nothing to check yet"
    bare = RunRow(checks={"verified": 3})
    assert checking(bare) == "3 of 3 segments passed a sampled check"
    open_ = RunRow(checks={"verified": 3, "sealed": 1})
    assert checking(open_) == "3 of 4 segments passed a sampled check, 1 under way"


def test_a_peers_record_is_shown_in_full() -> None:
    """What became of its segments, and what it did for others."""
    state = a_state(a_checked_snapshot())
    text = "\n".join(peer_lines(find_peer(state, "calm"), INK))
    assert "1/3 of its segments stood a sampled check: 2 proven false" in text
    assert "3 windows of others, 0 missed" in text
    assert "1/3" in next(x for x in peer_table(state, INK) if "calm-stoat" in x)


def test_an_empty_document_has_views_and_is_not_well() -> None:
    """A node that has just started can be looked at, and so can one of another release."""
    state = StateDocument()
    for view in (status_lines, peer_table, run_lines):
        assert view(state, INK)
    assert map_lines(state, INK, 80)
    assert headline(state) == "no run yet, ledger 0"
    assert health(state, INK) == "unknown: the node does not say"


def test_what_moves_and_has_its_peers_is_healthy() -> None:
    document = a_snapshot()
    peers: list[dict[str, object]] = document["peers"]  # type: ignore[assignment]
    assert health(a_state({**document, "peers": peers[:2]}), INK) == "healthy"


def test_a_network_that_stands_still_says_so_on_every_screen() -> None:
    """No rate, no loss, no word of training or health; cause, missing votes and one command beside it."""
    state = a_state(a_stalled_snapshot())
    for lines in (
        status_lines(state, INK),
        map_lines(state, INK, 120),
        peer_table(state, INK, 120),
        run_lines(state, INK),
    ):
        printed = "\n".join(lines)
        assert "healthy" not in printed
        assert "training" not in printed.replace("training loss -", "")
        assert not re.search(r"\d tok/s", printed)
    status = "\n".join(status_lines(state, INK))
    assert "stalled for 40 s: the ledger stands still at height 212" in status
    assert "try: swarm join" in status
    assert (
        "stands still for 40 s, supply conserved; validators not heard: keen-quail-306, brisk-seal-274"
        in status
    )
    assert "- tok/s" in headline(state)


def test_a_peer_that_is_gone_has_no_rate_and_says_since_when() -> None:
    row = next(line for line in map_lines(a_state(), INK, 140) if line.startswith("✕"))
    assert "keen-quail-306" in row
    assert row.endswith("gone for 44 s")
    text = "\n".join(peer_lines(find_peer(a_state(), "keen"), INK))
    assert "speed     - tok/s" in text
    assert "round     -\n" in text
    assert "(1 gone)" in headline(a_state())


def test_status_tells_node_run_and_ledger() -> None:
    """The lines a person asks for first."""
    text = "\n".join(status_lines(a_state(), INK))
    for expected in (
        "hazy-otter-697",
        "cuda:0 + cuda:1, 1 thread",
        "pydocs-demo",
        "round 41/80",
        "height 212",
        "supply conserved",
    ):
        assert expected in text


@pytest.mark.rule("N30")
@pytest.mark.parametrize(
    ("node", "text"),
    [
        (
            NodeRow(links=9, links_chosen=8, link_networks=5, anchor_peers=4),
            "9 connected, 8 by own choice, in 5 networks; 4 anchor peers",
        ),
        (NodeRow(links=2, links_chosen=1), "2 connected, 1 by own choice"),
        (NodeRow(isolated_s=75, anchor_peers=4), "none: isolated for 1 min 15 s"),
    ],
)
def test_status_tells_whom_a_node_is_connected_to(node: NodeRow, text: str) -> None:
    assert links_text(node) == text


def test_status_tells_how_good_the_model_is_and_who_says_so() -> None:
    """Training loss is called that; held-out figures name their round and who measured."""
    state = a_state()
    lines = status_lines(state, INK)
    assert any(line.startswith("round") and "training loss 1.9" in line for line in lines)
    measured = "held-out loss 2.214 nats, perplexity 9.15: round 40, measured by this node"
    assert any(line.split(maxsplit=1) == ["model", measured] for line in lines)
    assert "perplexity 9.15 here, round 40" in headline(state)
    assert any(measured in line for line in run_lines(state, INK))


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_a_headline_leaves_figures_out_and_cuts_none(columns: int) -> None:
    whole = headline(a_state()).split("  ")
    line = headline(a_state(), columns)
    assert width_of(line) <= columns
    assert all(bit in whole for bit in line.split("  "))
    assert line.startswith("round 41/80")


def test_the_end_of_a_run_is_shown_as_final_averaging() -> None:
    """Not as a round beyond the last."""
    printed = headline(a_state(an_ending_snapshot()))
    assert printed.startswith("80 rounds trained, final averaging: round 2 of 4")
    assert "81" not in printed


def test_lost_money_is_shouted() -> None:
    """The one thing that must never be overlooked."""
    assert "SUPPLY NOT CONSERVED" in ledger_text(LedgerRow(supply_conserved=False))


def test_a_peer_is_found_by_the_start_of_its_name_or_id() -> None:
    """And an unclear or unknown one is refused with what there is."""
    state = a_state()
    assert find_peer(state, "icy").name == "icy-newt-042"
    assert find_peer(state, find_peer(state, "icy").peer).name == "icy-newt-042"
    with pytest.raises(UsageError, match="several peers begin with '12D3'"):
        find_peer(state, "12D3")
    with pytest.raises(UsageError, match="no peer is called 'zebra'"):
        find_peer(state, "zebra")


def test_a_peer_in_full_says_whether_it_was_measured() -> None:
    """Claims are not passed off as measurements."""
    (peer,) = read_state({"peers": [peer_of(3, seats=[(1, 1)], measured=False)]}).peers
    text = "\n".join(peer_lines(peer, INK))
    assert "as it claims" in text
    assert "1/1" in text


@pytest.mark.rule("C6", "S23")
def test_a_hostile_name_stays_in_its_row() -> None:
    """Control characters cannot move the cursor or add a line."""
    document = a_snapshot()
    document["peers"] = [peer_of(0, seats=[(0, 0)], name="x\n\x1b[2Jy" * 30, reason="\x1b]0;z\x07")]
    for line in [*map_lines(a_state(document), INK, 120), *peer_table(a_state(document), INK, 80)]:
        assert line.isprintable()


@pytest.mark.rule("L70", "L71")
def test_a_run_says_what_it_pays_and_for_how_long() -> None:
    run = RunRow(price=9, price_max=16, escrow_rounds=1_200)
    assert paying(run) == "9 for 1,000 tokens, at most 16; the escrow pays 1,200 rounds at least"
    older = RunRow(price=9, price_max=16)
    assert paying(older) == "9 for 1,000 tokens, at most 16"
    shown = run_lines(StateDocument(run=run), INK)
    assert (
        "  pays      9 for 1,000 tokens, at most 16; the escrow pays 1,200 rounds at least" in shown
    )
    assert not any("pays" in line for line in run_lines(StateDocument(run=RunRow()), INK))
