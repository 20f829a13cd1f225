"""Decide the scenario of the demo: the roles of its peers, and the moment of each move.

Core: observations of the run and the time come in, moves go out.

    GATHER --all stages trained by several--> TRAIN --40% of the rounds--> KILLED --5 s--> BACK
    any --last checkpoints final, or time is up--> DONE

Independently of these phases, once every stage trains, a cheating peer joins when a fifth of the rounds is
over, and one of another kind when three tenths are.
"""

from dataclasses import dataclass
from enum import Enum, auto

REPLICAS = 3
"""Honest replicas of a stage, if the run has seats for more: the last seat is the cheating peer's."""
CHEAT_SHARE = 0.2
"""Share of the run after which the cheating peer starts.

It loads and waits for a boundary, so that it has a seat a quarter through, and can be convicted long before the
end.
"""
TWO_FACED_SHARE = 0.3
"""Share of the run after which the second cheating peer starts: the first is convicted by then, mostly."""
KILL_SHARE = 0.4
"""Share of the run after which the peer is killed: late enough to have state, early enough to return."""
DOWN_S = 5.0
"""Seconds for which the killed peer stays down."""
SETTLE_S = 30.0
"""Seconds after the last round in which the last commits and checkpoints can become final."""


class Cheat(Enum):
    """Way in which a peer cheats."""

    NO_STEPS = auto()
    """It counts its steps and takes none."""
    TWO_FACED = auto()
    """It gives its partners other weights than it has, and lists that it gave nothing."""


@dataclass(frozen=True, slots=True)
class Role:
    """Role of one of the demo's peers."""

    number: int
    solves: bool
    validates: bool
    cheat: Cheat | None = None

    @property
    def cheats(self) -> bool:
        """True for a peer that lies."""
        return self.cheat is not None

    @property
    def folder(self) -> str:
        """Name of its home, below the folder of the demo."""
        return f"peer-{self.number}"

    @property
    def is_launcher(self) -> bool:
        """True for number 0, which launches; the others join."""
        return self.number == 0


def num_honest(num_stages: int, replicas_max: int, *, cheats: bool) -> int:
    """Return the number of honest replicas: ``REPLICAS`` a stage, with seats left for the cheating peers."""
    left = len(Cheat) if cheats else 0
    return min(num_stages * min(REPLICAS, replicas_max), num_stages * replicas_max - left)


def roles_of(num_replicas: int, *, cheats: bool) -> tuple[Role, ...]:
    """Return the roles: ``num_replicas`` with a seat, then two without, the cheating peers last.

    The two without a seat and two of the replicas validate. The launcher does not: it could leave without the
    ledger noticing.
    """
    solvers = [Role(i, True, i in {1, 2}) for i in range(num_replicas)]
    others = [Role(num_replicas + i, False, True) for i in range(2)]
    kinds = enumerate(Cheat, num_replicas + 2) if cheats else ()
    liars = [Role(number, True, False, kind) for number, kind in kinds]
    return (*solvers, *others, *liars)


VICTIM = 1
"""Number of the peer that is killed: a replica that validates, so its return needs both a seat and a vote."""


class Phase(Enum):
    """Phase of the demo."""

    GATHER = auto()
    TRAIN = auto()
    KILLED = auto()
    BACK = auto()
    DONE = auto()


class Move(Enum):
    """Action that is due now."""

    CHEAT = auto()
    """Let the cheating peer join that takes no step."""
    DECEIVE = auto()
    """Let the cheating peer join that gives its partners other weights."""
    KILL = auto()
    RESTART = auto()
    FINISH = auto()


@dataclass(frozen=True, slots=True)
class Observation:
    """Observation of the run."""

    round: int
    rounds: int
    is_over: bool
    """True if there are no more rounds."""
    is_final: bool
    """True if the last checkpoint of every stage is on the ledger."""
    victim_trains: bool
    """True if the victim's own step counter has risen since its (re)start."""


class Scenario:
    """Scenario of one demo."""

    def __init__(self, *, deadline: float, kills: bool, cheats: bool) -> None:
        self.phase = Phase.GATHER
        self.rejoin_s: float | None = None
        """Seconds from the restart of the killed peer to its first step; None before that."""
        self.ended_early = False
        self._deadline = deadline
        self._kills = kills
        shares = {Move.CHEAT: CHEAT_SHARE, Move.DECEIVE: TWO_FACED_SHARE}
        self._joins = shares if cheats else {}
        """Shares of the run after which the cheating peers join that have not yet."""
        self._killed_at = 0.0
        self._restarted_at = 0.0
        self._over_at: float | None = None

    def next_moves(self, observation: Observation, now: float) -> list[Move]:
        """Return the moves that are due now; the caller must make them, for each is returned once."""
        if self.phase is Phase.DONE:
            return []
        if self._is_finished(observation, now):
            self.phase = Phase.DONE
            return [Move.FINISH]
        return [*self._let_cheat(observation), *self._move_on(observation, now)]

    def _let_cheat(self, observation: Observation) -> list[Move]:
        if self.phase is Phase.GATHER:
            return []
        now = observation.round / observation.rounds
        due = [move for move, share in self._joins.items() if now >= share]
        self._joins = {m: share for m, share in self._joins.items() if m not in due}
        return due

    def _move_on(self, observation: Observation, now: float) -> list[Move]:
        match self.phase:
            case Phase.GATHER:
                if observation.victim_trains:
                    self.phase = Phase.TRAIN
            case Phase.TRAIN:
                if self._kills and observation.round >= KILL_SHARE * observation.rounds:
                    self.phase, self._killed_at = Phase.KILLED, now
                    return [Move.KILL]
            case Phase.KILLED:
                if now - self._killed_at >= DOWN_S:
                    self.phase, self._restarted_at = Phase.BACK, now
                    return [Move.RESTART]
            case Phase.BACK:
                if self.rejoin_s is None and observation.victim_trains:
                    self.rejoin_s = now - self._restarted_at
            case Phase.DONE:
                pass
        return []

    def _is_finished(self, observation: Observation, now: float) -> bool:
        if now >= self._deadline:
            self.ended_early = not observation.is_over
            return True
        if not observation.is_over:
            return False
        if self._over_at is None:
            self._over_at = now
        return observation.is_final or now - self._over_at >= SETTLE_S
