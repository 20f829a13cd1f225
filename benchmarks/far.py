"""The real trainer over far lines, and with peers that are killed: the part of ``train`` behind ``--wan``.

Real node processes on this machine, A B A B. Tokens: four peers on loopback, then the same four each behind a
proxy of 80 ms and 80 Mbit/s each way. Goodput: eight replicas on loopback, then the same with one of them
killed (SIGKILL) every minute and started again some seconds later. Tokens are those of final commits, between
the same boundaries of both.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from benchmarks.common import ROOT, Outcome, median, say, spread
from benchmarks.local_swarm import Line, LocalSwarm, clock, cores_busy, seated, tokens_per_s
from benchmarks.pair_meter import KINDS, Sight
from benchmarks.wire_children import ChildError
from swarm.errors import SwarmError

WAN = Line(round_trip_ms=80.0, mbit_per_s=80.0)
FAR_RUN, CHURN_RUN = ROOT / "benchmarks" / "far.toml", ROOT / "benchmarks" / "churn.toml"
FAR_SEATS, CHURN_SEATS = (2, 2), (8,)
"""Seats of each stage."""
SETTLE_ROUNDS = 2
"""Rounds between the one in which all peers are seated and the first that counts: its commits, and the trades
of a newcomer that only pulls."""
FAR_ROUNDS, CHURN_ROUNDS = 5, 10
KILL_EVERY_S = 60.0
FIRST_KILL_S = 30.0
DOWN_S = 5.0
"""Seconds until a killed peer is started again, as a supervisor would."""
GATHER_S = 240.0
"""Seconds until all peers hold a seat: eight processes load one after the other on two cores."""
ROUND_S_MAX = 60.0
"""A round that takes longer has stalled."""
POLL_S = 0.5
SIGHT_S = 5.0
FAR_KEYS = ("wan_tokens_ratio", "goodput_churn")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one swarm."""

    tokens_per_s: float
    shares: Mapping[str, float]
    """Parts of the peers' time, the mean over peers that were there throughout."""
    cores: float
    """Cores of this machine in use, by all processes."""
    kills: int
    carried_mb: float
    steps: float
    """Steps of a peer in a round, the mean."""


def measure_far(quick: bool) -> Outcome:
    """Measure tokens over far lines and goodput under churn, each against its clean twin."""
    repeats, far_rounds, churn_rounds = (1, 2, 4) if quick else (2, FAR_ROUNDS, CHURN_ROUNDS)
    outcome = Outcome(
        {
            "wan": {"round_trip_ms": WAN.round_trip_ms, "mbit_per_s": WAN.mbit_per_s},
            "wan_peers": sum(FAR_SEATS),
            "wan_seats": list(FAR_SEATS),
            "wan_rounds": far_rounds,
            "churn_replicas": sum(CHURN_SEATS),
            "churn_rounds": churn_rounds,
            "kill_every_s": KILL_EVERY_S,
            "down_s": DOWN_S,
            "repeats": repeats,
            "killed": "in turn, but not the launcher, which alone validates",
        }
    )
    far = Series(FAR_RUN, FAR_SEATS, far_rounds, outcome)
    churn = Series(CHURN_RUN, CHURN_SEATS, churn_rounds, outcome)
    for _ in range(repeats):
        far.play("loopback", line=None)
        far.play("wan", line=WAN)
    for _ in range(repeats):
        churn.play("clean")
        churn.play("churn", kills=True)
    outcome.figures["wan_tokens_ratio"] = far.ratio("wan", "loopback")
    outcome.figures["goodput_churn"] = churn.ratio("churn", "clean")
    return outcome


class Series:
    """Measurements of one swarm, run in several ways in turns."""

    def __init__(self, run_path: Path, seats: Sequence[int], rounds: int, outcome: Outcome) -> None:
        self._run_path, self._seats, self._rounds = run_path, seats, rounds
        self._outcome = outcome
        self.found = dict[str, list[Measured]]()

    def play(self, name: str, *, line: Line | None = None, kills: bool = False) -> None:
        """Run the swarm once; a failure leaves its reason in detail."""
        try:
            found = self.run(name, line, kills=kills)
        except (SwarmError, ChildError) as error:
            say(f"{name} failed: {error}")
            self._outcome.detail[f"{name}_reason"] = str(error)
            return
        runs = self.found.setdefault(name, [])
        runs.append(found)
        self._outcome.detail[name] = _described(runs)
        say(
            f"{name}: {found.tokens_per_s:.0f} tokens/s, {found.steps:.1f} steps of a peer in a round,"
            f" {found.cores} cores in use, {found.kills} kills, {dict(found.shares)}"
        )

    def run(self, name: str, line: Line | None, *, kills: bool) -> Measured:
        """Run the swarm in a folder of its own; raises ``SwarmError`` or ``ChildError``."""
        folder = Path(tempfile.mkdtemp(prefix=f"swarm-bench-{name}-"))
        try:
            with LocalSwarm(folder, self._run_path, sum(self._seats), line) as swarm:
                return _measured(swarm, self._seats, self._rounds, kills=kills)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def ratio(self, name: str, base: str) -> float | None:
        """Return the medians' ratio; None, with the reason in detail, if one side is missing."""
        rates = [
            median([run.tokens_per_s for run in self.found.get(key, [])]) for key in (name, base)
        ]
        return round(rates[0] / rates[1], 4) if rates[0] and rates[1] else None


def _described(runs: Sequence[Measured]) -> dict[str, object]:
    return {
        "tokens_per_s": spread([run.tokens_per_s for run in runs]),
        "shares": {
            kind: round(statistics.mean(run.shares.get(kind, 0.0) for run in runs), 4)
            for kind in KINDS
        },
        "cores_in_use": spread([run.cores for run in runs]),
        "steps_of_a_round": spread([run.steps for run in runs]),
        "kills": [run.kills for run in runs],
        "carried_mb": [run.carried_mb for run in runs],
    }


def _measured(swarm: LocalSwarm, seats: Sequence[int], rounds: int, *, kills: bool) -> Measured:
    """Wait until all are seated and settled, then watch so many rounds; raises ``SwarmError``."""
    _wait(lambda: seated(swarm.sight(), seats), swarm, GATHER_S, "all peers hold one seat")
    first = swarm.history[-1].round + SETTLE_ROUNDS
    last = first + rounds
    _wait(
        lambda: swarm.history[-1].round >= first, swarm, SETTLE_ROUNDS * ROUND_S_MAX, "it settles"
    )
    began, sights = clock(), Sights()
    killer = Killer(began[0], swarm.num_peers) if kills else None
    deadline = began[0] + rounds * ROUND_S_MAX
    while swarm.history[-1].round < last:
        if time.monotonic() > deadline:
            raise SwarmError(f"no more than {swarm.history[-1].round} rounds", hint="read its logs")
        swarm.look()
        sights.take(swarm, time.monotonic())
        for number, is_back in killer.due(time.monotonic()) if killer else ():
            say(f"peer {number} {'starts again' if is_back else 'is killed'}")
            (swarm.join if is_back else swarm.kill)(number)
        time.sleep(POLL_S)
    ended, before, after = clock(), sights.first, sights.last
    rate = tokens_per_s(swarm.history, first, last)
    if rate is None:
        raise SwarmError(
            f"the boundaries {first} and {last} were not both seen", hint="a busy machine?"
        )
    if past := swarm.direct_links():
        raise SwarmError(f"{past} connections between peers went past the proxies")
    return Measured(
        tokens_per_s=rate,
        shares=shares_of(before, after),
        cores=cores_busy(began, ended),
        kills=killer.kills if killer else 0,
        carried_mb=round(sum(swarm.carried()) / 1e6, 1),
        steps=round(steps_of(before, after) * (ended[0] - began[0]) / rounds, 2),
    )


class Sights:
    """First and last sight of all peers in a measurement; none while one of them is down."""

    def __init__(self) -> None:
        self.first: Sight | None = None
        self.last: Sight | None = None
        self._next_s = 0.0

    def take(self, swarm: LocalSwarm, now: float) -> None:
        """Look at all peers, every ``SIGHT_S``."""
        if now < self._next_s:
            return
        self._next_s = now + SIGHT_S
        self.last = swarm.sight() or self.last
        self.first = self.first or self.last


class Killer:
    """Schedule of kills: every ``KILL_EVERY_S`` the next victim dies, and is back ``DOWN_S`` later."""

    def __init__(self, began_s: float, num_peers: int) -> None:
        self.kills = 0
        self._next_s = began_s + FIRST_KILL_S
        self._victims = cycle(range(1, num_peers))
        self._down: list[tuple[float, int]] = []

    def due(self, now: float) -> list[tuple[int, bool]]:
        """Return what is due, each once: (peer, True to start it again, False to kill it)."""
        moves = [(number, True) for at_s, number in self._down if at_s <= now]
        self._down = [(at_s, number) for at_s, number in self._down if at_s > now]
        if now >= self._next_s:
            self._next_s += KILL_EVERY_S
            self.kills += 1
            victim = next(self._victims)
            self._down.append((now + DOWN_S, victim))
            moves.append((victim, False))
        return moves


def _wait(is_true: Callable[[], bool], swarm: LocalSwarm, patience_s: float, what: str) -> None:
    deadline = time.monotonic() + patience_s
    while not (swarm.look() is not None and is_true()):
        if time.monotonic() > deadline:
            raise SwarmError(
                f"after {patience_s:.0f} s it is not so that {what}", hint="read its logs"
            )
        time.sleep(POLL_S)


def shares_of(before: Sight | None, after: Sight | None) -> dict[str, float]:
    """Return the mean part of the time that the peers spent on each kind; empty if they could not be asked.

    Peers that were started again meanwhile are left out.
    """
    found = dict[str, float]()
    if before is not None and after is not None and after.at_s > before.at_s:
        kept, passed_s = _kept(before, after), after.at_s - before.at_s
        for kind in KINDS if kept else ():
            spent_s = [after.seconds[n][kind] - before.seconds[n][kind] for n in kept]
            found[kind] = round(statistics.mean(spent_s) / passed_s, 4)
    return found


def steps_of(before: Sight | None, after: Sight | None) -> float:
    """Return the mean steps of a peer in a second; 0 if they could not be asked."""
    if before is None or after is None or after.at_s <= before.at_s:
        return 0.0
    taken = [after.steps[n] - before.steps[n] for n in _kept(before, after)]
    return statistics.mean(taken) / (after.at_s - before.at_s) if taken else 0.0


def _kept(before: Sight, after: Sight) -> list[int]:
    """Return the numbers of the peers that are the same processes in both sights."""
    return [n for n, pid in enumerate(before.pids) if pid == after.pids[n]]
