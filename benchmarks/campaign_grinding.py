"""Let a third of the stake withhold its blocks whenever the dice of a draw do not suit it.

Every block is the draw of one segment, or deals the windows of one. A leader knows the beacon that its own
block would make; if the draw or the deal does not suit it, it says nothing, its view is skipped, and the next
leader throws other dice. If a part ``a`` of the views is its own, and dice suit with probability p, they suit
in the end with p / (1 - a (1 - p)): one bit of choice for each view withheld. Each such view counts against it;
at the end of an epoch its offers to validate are void if it has missed three in a row (L50).

Leaders, their VRF proofs, beacons and draws are those of the ledger; the outputs of verifiers are hashes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarm.ledger.blocks import Validator, next_beacon, vrf_alpha
from swarm.ledger.leaders import LeaderSchedule
from swarm.ledger.state.draws import Draw
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.transition.sampling import deal_windows, selects
from swarm.ledger.transition.validators import MISSES_MAX
from swarm.primitives import vrf
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import numbered_key
from swarm.types import Amount, Digest, Height, View
from tests.ledger.checking import a_case

VALIDATORS, GRINDERS = 6, 2
"""Validators of equal power, and those of them that one attacker holds: a third."""
EPOCH_BLOCKS = 60
VERIFIERS, FRIENDS = 10, 1
"""Verifiers of equal stake, and those of them that are the attacker's."""
WINDOWS, FALSE, ASKED = 5, 2, 2
"""Windows of the segment, those in which it is false, and honest verifiers that have asked for one."""
STAKE = Amount(1_000)

Suits = Callable[[Digest], bool]
"""True if a draw, or a deal, by this beacon suits the attacker."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What withholding has changed."""

    blocks: int
    fair: float
    """Part of the draws that suit where nobody withholds."""
    suits: float
    """Part of the draws that suit where the attacker withholds."""
    theory: float
    """That part by the formula."""
    missed: int
    """Views that it withheld."""
    epochs: int
    offers_void: int
    """Offers of its validators that were void at the end of an epoch, if it had offered again each time."""


def friend_is_drawn() -> Suits:
    """Return the wish that its verifier is drawn for the segment."""
    return lambda beacon: _num_drawn(beacon, range(FRIENDS)) > 0


def nobody_else_is_drawn() -> Suits:
    """Return the wish that no verifier but its own is drawn."""
    return lambda beacon: _num_drawn(beacon, range(FRIENDS, VERIFIERS)) == 0


def nobody_is_dealt_the_lie() -> Suits:
    """Return the wish that none of the verifiers that have asked is dealt a false window."""
    return lambda beacon: min(deal_windows(beacon, _segment(), WINDOWS, ASKED)) >= FALSE


WISHES: dict[str, Callable[[], Suits]] = {
    "its verifier is drawn": friend_is_drawn,
    "no verifier but its own is drawn": nobody_else_is_drawn,
    "no verifier is dealt its lie": nobody_is_dealt_the_lie,
}


def grind_for(wish: str, blocks: int) -> Ground:
    """Return what withholding changes for an attacker with this wish."""
    return grind(WISHES[wish](), blocks)


def grind(suits: Suits, blocks: int) -> Ground:
    """Make so many blocks with an attacker among the leaders, and as many without."""
    fair = _play(suits, blocks, frozenset())
    ground = _play(suits, blocks, frozenset(range(GRINDERS)))
    part, chance = GRINDERS / VALIDATORS, fair.num_suits / blocks
    return Ground(
        blocks=blocks,
        fair=chance,
        suits=ground.num_suits / blocks,
        theory=chance / (1 - part * (1 - chance)),
        missed=ground.missed,
        epochs=ground.epochs,
        offers_void=ground.offers_void,
    )


@dataclass(slots=True)
class _Played:
    num_suits: int = 0
    missed: int = 0
    epochs: int = 0
    offers_void: int = 0


def _play(suits: Suits, blocks: int, grinders: frozenset[int]) -> _Played:
    keys = [numbered_key(number) for number in range(VALIDATORS)]
    voters = [Validator(key.peer, STAKE) for key in keys]
    played, beacon, chain = _Played(), digest("beacon", b"first"), digest("genesis", b"grinding")
    for epoch in range(-(-blocks // EPOCH_BLOCKS)):
        schedule, view = LeaderSchedule(beacon, voters), View(0)
        in_a_row = [0] * VALIDATORS
        for _ in range(min(EPOCH_BLOCKS, blocks - epoch * EPOCH_BLOCKS)):
            while True:
                view = View(view + 1)
                leader = schedule.leader(view)
                after = _beacon(chain, epoch, view, beacon, keys[leader])
                if leader not in grinders or suits(after):
                    break
                played.missed += 1
                in_a_row[leader] += 1
            in_a_row[leader] = 0
            beacon = after
            played.num_suits += suits(beacon)
        played.epochs += 1
        played.offers_void += sum(in_a_row[number] >= MISSES_MAX for number in grinders)
    return played


def _beacon(chain: Digest, epoch: int, view: View, before: Digest, key: SecretKey) -> Digest:
    """Return the beacon after a block of this leader."""
    proof = vrf.prove(key, vrf_alpha(chain, epoch, view, before))
    return next_beacon(before, vrf.output(proof))


def _num_drawn(beacon: Digest, verifiers: Sequence[int]) -> int:
    """Return how many of these a draw by this beacon selects for the segment."""
    draw, record = Draw(Height(9), beacon, Amount(VERIFIERS * STAKE)), _segment()
    outputs = (digest("output", beacon, number.to_bytes(8, "big")) for number in verifiers)
    return sum(selects(draw, record, STAKE, output) for output in outputs)


def _segment(known: list[SegmentRecord] = []) -> SegmentRecord:  # noqa: B006  made once
    if not known:
        known.append(a_case().record)
    return known[0]
