"""Far lines and churn are measured between the same boundaries, behind every proxy, with kills on time."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks import far, train
from benchmarks.common import Outcome
from benchmarks.far import DOWN_S, FAR_KEYS, FIRST_KILL_S, KILL_EVERY_S, Killer, Measured
from benchmarks.local_swarm import Line, Progress, behind, cores_busy, seated, tokens_per_s
from benchmarks.pair_meter import KINDS, Sight
from swarm.cli.demo.peer import NODE_FILE
from swarm.config.load import parse_node_file, parse_run_file
from swarm.errors import SwarmError

ROUND_S = 20.0


def a_sight(*stages: tuple[int, ...], at_s: float = 0.0, steps: tuple[int, ...] = ()) -> Sight:
    """All peers compute all the time."""
    seconds = tuple(dict.fromkeys(KINDS, 0.0) | {"compute": at_s} for _ in stages)
    pids = tuple(range(len(stages)))
    return Sight(at_s, stages, seconds, steps=steps or (0,) * len(stages), pids=pids)


def a_run(tokens_per_s: float) -> Measured:
    return Measured(
        tokens_per_s=tokens_per_s,
        shares={"compute": 0.5},
        cores=1.5,
        kills=0,
        carried_mb=0.0,
        steps=10.0,
    )


def test_a_node_behind_a_line_listens_in_secret_and_announces_the_proxy() -> None:
    text = NODE_FILE.format(solve="true", validate="false", verify="true", stake=0)
    config = parse_node_file(behind(text, 4001, 5001), "node.toml")
    assert config.listen == ("127.0.0.1:4001",)
    assert config.announce == ("/ip4/127.0.0.1/tcp/5001",)


@pytest.mark.parametrize(
    ("sight", "is_seated"),
    [
        (a_sight((0,), (1,), (1,), (0,)), True),
        (a_sight((0, 1), (1,), (0,), ()), False),
        (a_sight((0,), (0,), (0,), (1,)), False),
        (a_sight((0,), (1,), (1,)), False),
        (None, False),
    ],
)
def test_a_swarm_counts_once_every_peer_has_its_one_seat(
    sight: Sight | None, is_seated: bool
) -> None:
    assert seated(sight, (2, 2)) is is_seated


def test_tokens_count_between_boundaries() -> None:
    history = [Progress(100.0 + ROUND_S * n, n, 1000 * n) for n in range(3, 9)]
    assert tokens_per_s(history, 4, 8) == 50.0
    assert tokens_per_s(history, 2, 8) is None, "the first was not seen"
    assert tokens_per_s(history, 4, 9) is None
    assert tokens_per_s(history, 8, 8) is None


def test_cores_in_use_are_processor_seconds_over_time() -> None:
    assert cores_busy((10.0, 100.0), (20.0, 115.0)) == 1.5


def test_a_killer_takes_each_in_turn_but_the_launcher_and_lets_all_return() -> None:
    killer, moves = Killer(0.0, 4), list[tuple[float, int, bool]]()
    for tenth in range(2800):
        now = tenth / 10
        moves += [(now, *move) for move in killer.due(now)]
    kills = [(at_s, number) for at_s, number, is_back in moves if not is_back]
    returns = [(at_s, number) for at_s, number, is_back in moves if is_back]
    times = [FIRST_KILL_S + n * KILL_EVERY_S for n in range(5)]
    assert kills == list(zip(times, [1, 2, 3, 1, 2], strict=True))
    assert returns == [(at_s + DOWN_S, number) for at_s, number in kills]
    assert killer.kills == 5


def test_shares_and_steps_are_those_of_peers_that_were_there_throughout() -> None:
    before = a_sight((0,), (0,), at_s=10.0, steps=(50, 50))
    after = a_sight((0,), (0,), at_s=30.0, steps=(90, 200))
    after = dataclasses.replace(after, pids=(0, 99))
    assert far.shares_of(before, after) == dict.fromkeys(KINDS, 0.0) | {"compute": 1.0}
    assert far.steps_of(before, after) == 2.0
    assert far.shares_of(None, after) == {}
    assert far.steps_of(before, None) == 0.0
    assert far.shares_of(before, dataclasses.replace(after, pids=(98, 99))) == {}


@pytest.mark.parametrize("path", [far.FAR_RUN, far.CHURN_RUN])
def test_the_runs_are_runs(path: Path) -> None:
    file = parse_run_file(path.read_text("utf-8"), path.name)
    seats = far.FAR_SEATS if path is far.FAR_RUN else far.CHURN_SEATS
    assert (file.training.num_stages, file.training.replicas_max) == (len(seats), seats[0])
    assert file.run.recipe == "muon", "the default of swarm init"
    assert file.training.round_blocks * file.ledger.block_interval_s == ROUND_S


class Scripted(far.Series):
    """Runs that are over at once: the clean ones fast, the others slower, one of them broken."""

    rates = {"loopback": [100.0, 120.0], "wan": [70.0, 80.0], "clean": [10.0, 10.0]}  # noqa: RUF012

    def run(self, name: str, line: Line | None, *, kills: bool) -> Measured:
        assert (line is not None) == (name == "wan")
        assert kills == (name == "churn")
        if name == "churn":
            raise SwarmError("it ended")
        return a_run(self.rates[name][len(self.found.get(name, []))])


def test_the_figures_are_medians_over_medians_and_a_failure_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(far, "Series", Scripted)
    outcome: Outcome = train.measure_wan(quick=False)
    assert outcome.figures["wan_tokens_ratio"] == round(75 / 110, 4)
    assert outcome.figures["goodput_churn"] is None
    assert outcome.detail["churn_reason"] == "it ended"
    others = {key: value for key, value in outcome.figures.items() if key not in FAR_KEYS}
    assert {"sync_nats", "muon_gossip_nats", "activation_ratio", "seeds"} <= set(others)
    assert set(others.values()) == {None}
    assert "only without --wan" in str(outcome.detail["others_reason"])
