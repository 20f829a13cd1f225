"""Find the moves of the dishonest side of a hearing, by its habit: a part of the benchmark ``verify``.

A side says one or more moves at its turn, as bytes, of which the first that stands counts; none if it is silent
from then on. The habits are described in ``benchmarks/hearing_games.py``.
"""

import random
from enum import StrEnum

from benchmarks.hearing_cast import TracedChallenger, TracedSolver
from swarm.errors import PeerFault
from swarm.primitives.codec import encode, replace
from swarm.verify.court import read_game
from swarm.verify.program.dispute import (
    Dispute,
    Move,
    OpenOther,
    Phase,
    PickPart,
)
from swarm.verify.program.events import OpenCopy, OpenMerge
from swarm.verify.program.game import Leaf, Pick, Show, ShowTokens, Split
from swarm.verify.program.opened import OpenMicrobatch, OpenStep
from swarm.verify.program.shown import ShowInputs

SILENT_TURNS = 4
"""The silent habit ends at one of so many turns."""
INPUTS_TURNS = 12
"""An accuser that moves at random shows at one of so many turns what the log has, true or bent."""
NOISE_BYTES_MAX = 200
LEAF_BYTES = 1024


class Habit(StrEnum):
    """How the dishonest side of a hearing moves."""

    LIES = "lies"
    GARBAGE = "garbage"
    MUTANTS = "mutants"
    RANDOM = "random"
    SILENT = "silent"


class Opponent:
    """The dishonest side of one hearing."""

    def __init__(
        self, side: TracedSolver | TracedChallenger, habit: Habit, rng: random.Random
    ) -> None:
        self._side, self.habit, self._rng = side, habit, rng
        self._said = list[bytes]()

    def tries(self, game: bytes) -> list[bytes]:
        """Return the moves that it tries at its turn; ``game`` is what the ledger keeps of the hearing."""
        rng = self._rng
        if self.habit is Habit.SILENT and not rng.randrange(SILENT_TURNS):
            return []
        best = self._best(game)
        own = [] if best is None else [best]
        self._said += own
        match self.habit:
            case Habit.LIES | Habit.SILENT:
                return own
            case Habit.GARBAGE:
                return [*self._garbage(best or b"\x00"), *own]
            case Habit.MUTANTS:
                turned = [self._turned(best) for _ in range(2)] if best else []
                return [*turned, rng.choice(self._said or [b""]), *own]
            case Habit.RANDOM:
                moves = [encode(move) for move in self._any(game)] if game else []
                return [*moves, *own[: rng.randrange(2) if moves else 1]]

    def _best(self, game: bytes) -> bytes | None:
        """Return the best move of its lie; None where it has none, after moves that it has not meant."""
        try:
            return self._side.said(game)
        except (PeerFault, ArithmeticError, AssertionError, LookupError, TypeError, ValueError):
            return None

    def _garbage(self, best: bytes) -> list[bytes]:
        noise = self._rng.randbytes(self._rng.randrange(NOISE_BYTES_MAX))
        return [noise, best[: self._rng.randrange(len(best))], best + b"\x00", encode(Split(()))]

    def _turned(self, move: bytes) -> bytes:
        changed = bytearray(move)
        changed[self._rng.randrange(len(move))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    # --- well-formed moves at random ---

    def _any(self, game: bytes) -> list[Move]:
        dispute = read_game(game)
        if isinstance(self._side, TracedSolver):
            return self._any_of_solver(dispute)
        return self._any_of_accuser(dispute)

    def _any_of_solver(self, dispute: Dispute) -> list[Move]:
        rng, best = self._rng, self._meant(dispute)
        match best:
            case OpenStep():
                number = rng.randrange(len(best.microbatches))
                lie = replace(
                    best.microbatches[number], **{rng.choice(("trace", "gradient")): self._digest()}
                )
                shown = (*best.microbatches[:number], lie, *best.microbatches[number + 1 :])
                other = replace(best, microbatches=shown, update=self._digest())
                return [OpenOther(best.account), rng.choice((other, best))]
            case OpenCopy() | OpenMerge():
                return [OpenOther(best.account), replace(best, trace=self._digest()), best]
            case OpenMicrobatch():
                return [replace(best, out_activation=self._digest()), Split(best.hashes), best]
            case Split(hashes=hashes):
                noise = tuple(self._digest() for _ in hashes)
                return [Split(noise), Split(hashes[::-1]), Leaf(rng.randbytes(LEAF_BYTES))]
            case Leaf(data=data):
                return [Leaf(rng.randbytes(len(data))), Leaf(data[:-1]), Split(())]
            case _:
                return []

    def _any_of_accuser(self, dispute: Dispute) -> list[Move]:
        rng, walk, opened = self._rng, dispute.walk, dispute.opened
        if not rng.randrange(INPUTS_TURNS):
            return self._any_inputs()
        if dispute.phase == Phase.PART and isinstance(opened, OpenStep):
            return [PickPart(rng.randrange(len(opened.microbatches) + 1))]
        if walk is not None and walk.split:
            return [Pick(rng.randrange(len(walk.split)))]
        best = self._meant(dispute)
        match best:
            case Show(reveal=shown):
                places = [shown.place + step for step in (-1, 1, rng.randrange(LEAF_BYTES))]
                return [*(Show(replace(shown, place=place)) for place in places), best]
            case ShowTokens():
                return [replace(best, place=best.place + 1), best]
            case _:
                return []

    def _any_inputs(self) -> list[Move]:
        side = self._side
        if not isinstance(side, TracedChallenger) or side.manifest is None:
            return []
        at = self._rng.randrange(len(side.inputs.events))
        one = ShowInputs(side.manifest, side.inputs.events[at], side.inputs.path(at))
        bent = replace(side.manifest, start=self._digest())
        return [one, replace(one, manifest=bent), ShowInputs(side.manifest)]

    def _meant(self, dispute: Dispute) -> Move | None:
        try:
            return self._side.move(dispute)
        except (PeerFault, ArithmeticError, AssertionError, LookupError, TypeError, ValueError):
            return None

    def _digest(self) -> bytes:
        return self._rng.randbytes(32)
