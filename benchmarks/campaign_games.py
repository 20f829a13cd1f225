"""Small games of consensus with real keys, in which a validator signs two ways and the ledger judges it.

The validators are those of a genesis, and vote on its chain. What they find is brought to the ledger of that
genesis as ``Evidence`` in a block, which is validated as another node would. Every pair of votes that an honest
validator signed in one view is brought to it as well, and must be refused.
"""

from dataclasses import dataclass, replace
from itertools import combinations

from swarm.config.spec import GenesisAccount
from swarm.errors import InvalidStatement
from swarm.ledger.transactions import Evidence, SignedVote
from swarm.ledger.transition.apply import check_transaction
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import BALANCE, STAKE, InMemoryLedger, numbered_key
from swarm.types import Amount, View
from tests.ledger.consensus.scenarios import SCENARIOS
from tests.ledger.consensus.simulation import Found, World

GAMES = tuple(
    sorted(
        name
        for name, scenario in SCENARIOS.items()
        if scenario.equivocators and scenario.epoch_blocks > 100
    )
)
"""Scenarios with an equivocator: their epochs are as long as the game."""
VIEWS_MAX = 20
"""Views within which evidence must be found."""
EPOCH_BLOCKS = 60


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a game's equivocators, and of the others."""

    scenario: str
    num_equivocators: int
    num_slashed: int
    views: int
    """View in which evidence against the last of them was found."""
    num_accused: int
    """Honest validators against which evidence was found, or was accepted by the ledger."""
    num_pairs: int
    """Pairs of votes of honest validators that the ledger was asked about."""


def play(seed: int) -> Judged:
    """Play the game of a seed until ``VIEWS_MAX`` views are over; then judge."""
    name = GAMES[seed % len(GAMES)]
    scenario = replace(SCENARIOS[name], real_keys=True)
    keys = [numbered_key(i) for i in range(scenario.count)]
    powers = scenario.powers or (1,) * scenario.count
    accounts = [
        GenesisAccount(key.peer, BALANCE, Amount(STAKE * power))
        for key, power in zip(keys, powers, strict=True)
    ]
    ledger = InMemoryLedger(
        scenario.count,
        scenario.count,
        epoch_blocks=EPOCH_BLOCKS,
        accounts=tuple(sorted(accounts, key=lambda account: account.peer)),
    )
    world = World(scenario, seed, keys, ledger.state.chain)
    guilty = set(scenario.equivocators)
    world.run(until=lambda: _newest_view(world) > VIEWS_MAX)
    found = {one.accused: one for one in reversed(world.found)}
    innocent = [i for i in range(scenario.count) if i not in guilty]
    pairs = _pairs(world, keys, innocent)
    accused = {i for i in innocent if i in found} | _convictable(ledger, keys, pairs)
    slashed = [i for i in sorted(guilty) if i in found and _is_slashed(ledger, keys, found[i])]
    views = max((found[i].view for i in guilty if i in found), default=0)
    return Judged(name, len(guilty), len(slashed), views, len(accused), len(pairs))


def _newest_view(world: World) -> int:
    return max((r.machine.view for r in world.replicas if r.machine is not None), default=View(0))


def _is_slashed(ledger: InMemoryLedger, keys: list[SecretKey], found: Found) -> bool:
    """Bring evidence to the ledger; return True if it was found in time and took the whole stake."""
    first, second = (
        SignedVote(vote.kind, vote.block, vote.signature)
        for vote in (found.evidence.first, found.evidence.second)
    )
    peer, epoch = keys[found.accused].peer, ledger.state.next_epoch
    body = Evidence(peer, epoch, found.evidence.first.view, first, second)
    if not ledger.state.account(peer).stake:
        return False
    try:
        state = ledger.block(ledger.sign(keys[found.finder], body))
    except InvalidStatement:
        return False
    is_taken = not state.account(peer).stake and state.equivocator(peer) is not None
    return is_taken and found.view <= VIEWS_MAX


def _pairs(world: World, keys: list[SecretKey], innocent: list[int]) -> list[Evidence]:
    """Return every two votes that one honest validator signed in one view, as if they were evidence."""
    votes: dict[tuple[int, int], list[SignedVote]] = {}
    for (_, voter, kind, view), vote in sorted(world.claimed.items(), key=lambda item: item[0]):
        signed = SignedVote(kind, vote.block, vote.signature)
        votes.setdefault((voter, view), []).append(signed)
    return [
        Evidence(keys[voter].peer, 0, View(view), *pair)
        for (voter, view), signed in votes.items()
        if voter in innocent
        for pair in combinations(signed, 2)
    ]


def _convictable(ledger: InMemoryLedger, keys: list[SecretKey], pairs: list[Evidence]) -> set[int]:
    """Return the honest validators that the ledger would convict."""
    numbers = {key.peer: i for i, key in enumerate(keys)}
    convicted = set[int]()
    for body in pairs:
        witness = next(key for key in keys if key.peer != body.peer)
        try:
            check_transaction(ledger.state, ledger.sign(witness, body))
        except InvalidStatement:
            continue
        convicted.add(numbers[body.peer])
    return convicted
