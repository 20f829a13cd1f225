"""The terminal says what the page says, readable with 2 peers and with 200."""

import pytest

from swarm.cli.style import Ink, width_of
from swarm.cli.views import (
    checking,
    conviction_lines,
    find_peer,
    headline,
    health,
    map_lines,
    peer_lines,
    peer_table,
    run_lines,
    run_list,
    status_lines,
)
from swarm.errors import UsageError
from tests.web.snapshots import a_checked_snapshot, a_snapshot, an_ending_snapshot, peer_of

INK = Ink()


def test_the_map_shows_every_peer_in_its_lane() -> None:
    """One row per peer, a bar under its stage, what is wrong in words."""
    lines = map_lines(a_snapshot(), INK, 120)
    row = {
        name: next(x for x in lines[3:] if name in x)
        for name in ("hazy-otter", "icy-newt", "mild-heron")
    }
    heads = next(line for line in lines if "stage 0" in line)
    assert row["hazy-otter"].index("█") == heads.index("stage 0")
    assert row["mild-heron"].index("█") == heads.index("stage 1")
    assert "you" in row["hazy-otter"]
    assert row["icy-newt"].endswith("slow: 2 rounds behind")
    assert lines[1] == "degraded: keen-quail-306 unreachable; icy-newt-042 behind"


def test_the_list_of_runs_names_the_run() -> None:
    """And says how it goes, or that there is none."""
    picture = a_snapshot()
    run: dict[str, object] = picture["run"]  # type: ignore[assignment]
    assert run_list(picture) == [f"{run['name']}  {headline(picture)}"]
    assert run_list({**picture, "run": None}) == ["no run yet"]


def test_one_of_a_kind_is_told_in_the_singular() -> None:
    picture = a_snapshot()
    peers: list[object] = picture["peers"]  # type: ignore[assignment]
    run: dict[str, object] = picture["run"]  # type: ignore[assignment]
    alone = {**picture, "peers": peers[:1], "run": {**run, "num_stages": 1}}
    said = "\n".join([*status_lines(alone, INK), *run_lines(alone, INK)])
    assert "1 peer," in said
    assert "1 peer  ledger" in said
    assert "in 1 stage\n" in said
    assert "1 peers" not in said
    assert "1 stages" not in said


def test_validators_are_marked_by_a_shape() -> None:
    """Not by colour alone."""
    lines = map_lines(a_snapshot(), INK, 120)
    assert "●◆" in next(line for line in lines if "glad-raven" in line)
    assert "◆" not in next(line for line in lines if "hazy-otter" in line)


def test_a_narrow_terminal_loses_columns_not_peers() -> None:
    """Lanes and state stay."""
    lines = map_lines(a_snapshot(), INK, 70)
    assert all(any(f"{name}" in line for line in lines) for name in ("hazy-otter", "lucid-owl"))
    assert not any("tok/s" in line for line in lines[3:])


def test_two_hundred_peers_are_two_hundred_rows() -> None:
    """The map grows by lines, not by columns."""
    picture = a_snapshot()
    picture["peers"] = [peer_of(i, seats=[(i % 4, i // 4)]) for i in range(200)]
    lines = map_lines(picture, INK, 120)
    assert len(lines) == 204
    assert max(map(width_of, lines)) < 130


def test_a_convicted_peer_is_marked_by_a_shape_and_in_words() -> None:
    """In the map, in the health line and in the table."""
    picture = a_checked_snapshot()
    lines = map_lines(picture, INK, 130)
    row = next(line for line in lines[3:] if "calm-stoat-008" in line)
    assert row.startswith("⊘")
    assert row.endswith("proven false, evicted")
    assert "icy-newt-042 behind; 1 proven false and evicted" in lines[1]
    assert "12/12" in next(line for line in lines if "hazy-otter" in line)


def test_how_checking_goes_is_told_with_status_and_run() -> None:
    """Counts by how a segment ended, then the newest in words."""
    picture = a_checked_snapshot()
    said = checking(picture)
    assert said.startswith("71 of 82 segments verified, 2 proven false, 1 not shown")
    assert said.endswith("6 under way")
    assert any(said in line for line in status_lines(picture, INK))
    shown = "\n".join(run_lines(picture, INK))
    assert said in shown
    assert "segment 37/0/4 of calm-stoat-008 was proven false by brisk-seal-274" in shown
    assert "segment 40/0/1 of hazy-otter-697 is verified" in shown
    assert conviction_lines(a_snapshot()) == []
    assert checking({}) == "nothing to check yet"


def test_a_peers_record_is_told_in_full() -> None:
    """What became of its segments, and what it did for others."""
    peer = find_peer(a_checked_snapshot(), "calm")
    text = "\n".join(peer_lines(peer, INK))
    assert "1/3 of its segments stood: 2 proven false" in text
    assert "3 windows of others, 0 missed" in text
    assert "1/3" in next(x for x in peer_table(a_checked_snapshot(), INK) if "calm-stoat" in x)


def test_an_empty_picture_has_views() -> None:
    """A node that has just started can be looked at."""
    for view in (status_lines, peer_table, run_lines):
        assert view({}, INK)
    assert map_lines({}, INK, 80)
    assert headline({}) == "no run yet, ledger 0"
    assert health({}, INK) == "healthy"


def test_status_tells_node_run_and_ledger() -> None:
    """The lines a person asks for first."""
    text = "\n".join(status_lines(a_snapshot(), INK))
    for words in (
        "hazy-otter-697",
        "cuda:0 + cuda:1, 1 thread",
        "pydocs-demo",
        "round 41/80",
        "height 212",
        "supply conserved",
    ):
        assert words in text


def test_status_tells_how_good_the_model_is_and_who_says_so() -> None:
    """Training loss is called that; held-out figures name their round and who measured."""
    picture = a_snapshot()
    lines = status_lines(picture, INK)
    assert any(line.startswith("round") and "training loss 1.9" in line for line in lines)
    measured = "held-out loss 2.214 nats, perplexity 9.15: round 40, measured by this node"
    assert any(line.split(maxsplit=1) == ["model", measured] for line in lines)
    assert "perplexity 9.15 here, round 40" in headline(picture)
    assert any(measured in line for line in run_lines(picture, INK))


def test_the_end_of_a_run_is_told_as_an_agreement() -> None:
    """Not as a round beyond the last."""
    said = headline(an_ending_snapshot())
    assert said.startswith("80 rounds trained, agreeing: round 2 of 4")
    assert "81" not in said


def test_lost_money_is_shouted() -> None:
    """The one thing that must never be overlooked."""
    picture = a_snapshot()
    picture["ledger"] = {"supply_conserved": False}
    assert any("SUPPLY NOT CONSERVED" in line for line in status_lines(picture, INK))


def test_a_peer_is_found_by_the_start_of_its_name_or_id() -> None:
    """And an unclear or unknown one is refused with what there is."""
    picture = a_snapshot()
    assert find_peer(picture, "icy")["name"] == "icy-newt-042"
    assert find_peer(picture, str(find_peer(picture, "icy")["peer"]))["name"] == "icy-newt-042"
    with pytest.raises(UsageError, match="several peers begin with '12D3'"):
        find_peer(picture, "12D3")
    with pytest.raises(UsageError, match="no peer is called 'zebra'"):
        find_peer(picture, "zebra")


def test_a_peer_in_full_says_whether_it_was_measured() -> None:
    """Claims are not passed off as measurements."""
    peer = peer_of(3, seats=[(1, 1)], measured=False)
    text = "\n".join(peer_lines(peer, INK))
    assert "as it claims" in text
    assert "1/1" in text


@pytest.mark.rule("C6", "S23")
def test_a_hostile_name_stays_in_its_row() -> None:
    """Control characters cannot move the cursor or add a line."""
    picture = a_snapshot()
    picture["peers"] = [peer_of(0, seats=[(0, 0)], name="x\n\x1b[2Jy" * 30, reason="\x1b]0;z\x07")]
    for line in [*map_lines(picture, INK, 120), *peer_table(picture, INK)]:
        assert line.isprintable()
