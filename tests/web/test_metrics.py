"""The metrics say what the snapshot says, and nothing that is unknown."""

import math

import pytest

from swarm.node.api.schema import PeerRow, StateDocument
from swarm.web.metrics import prometheus_text
from tests.web.snapshots import a_checked_snapshot, a_snapshot, a_stalled_snapshot, a_state


def test_every_known_number_becomes_a_sample() -> None:
    """A snapshot's numbers appear under their metric names."""
    lines = prometheus_text(a_state(a_snapshot())).splitlines()
    assert "swarm_round 41" in lines
    assert "swarm_ledger_height 212" in lines
    assert "swarm_ledger_supply_conserved 1" in lines
    assert "swarm_peers 8" in lines


def test_checks_are_counted_by_phase() -> None:
    """One sample a phase; none before the first segment."""
    lines = prometheus_text(a_state(a_checked_snapshot())).splitlines()
    assert 'swarm_run_checks{phase="verified"} 71' in lines
    assert "swarm_run_confirmed 70" in lines
    assert "swarm_run_checks" not in prometheus_text(a_state(a_snapshot()))


def test_what_is_unknown_is_left_out() -> None:
    """A node that has just started exports no zeros that it did not measure."""
    text = prometheus_text(
        a_state({"node": {"uptime_s": 1}, "run": None, "peers": [{"rtt_ms": None}]})
    )
    assert "swarm_round" not in text
    assert "swarm_peer_rtt_ms" not in text
    assert "swarm_uptime_s 1" in text


def test_a_number_that_is_not_finite_is_left_out() -> None:
    """NaN and infinity are no measurements."""
    assert "loss" not in prometheus_text(a_state({"run": {"loss_nats": math.nan}}))


def test_a_hostile_name_cannot_add_a_sample() -> None:
    """Quotes, backslashes and line ends in a label are escaped."""
    name = 'x"} 1\nswarm_fake 1\\'
    text = prometheus_text(StateDocument(peers=(PeerRow(peer=name, tokens_per_s=5),)))
    assert 'peer="x\\"} 1\\nswarm_fake 1\\\\"' in text
    assert not any(line.startswith("swarm_fake") for line in text.splitlines())


@pytest.mark.rule("W7")
def test_a_rate_that_is_stale_has_no_sample() -> None:
    """Of a peer that is gone, and of a run that stands still; the ledger's age says since when."""
    text = prometheus_text(a_state(a_stalled_snapshot()))
    assert "swarm_run_tokens_per_s" not in text
    assert "swarm_peer_tokens_per_s" not in text
    assert "swarm_progressing 0" in text
    assert "swarm_ledger_age_s 40" in text
    assert "swarm_peers_gone 1" in text
    assert "swarm_progressing 1" in prometheus_text(a_state())
