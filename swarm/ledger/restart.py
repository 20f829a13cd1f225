"""Carry the money of a ledger that lost its quorum for good over into the genesis of a new network.

Core: pure functions. No rule of consensus brings back a network of whose power more than a third is gone:
those that are left agree, outside of it, on who validates from now on. All that have the same final state and
name the same validators compute the same genesis, and so the same network id: comparing ids is how they see
that they agree.

What is nobody's yet goes back: bonds to who put them up, pay that was not judged and escrows to the owners of
the runs. Runs end; their models go on with a new run (``init_from``). Money that was withdrawn to a contract
outside stays there.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.config.bounds import check_genesis
from swarm.config.spec import Genesis, GenesisAccount
from swarm.errors import UsageError
from swarm.ledger.state.payouts import PayoutLog
from swarm.ledger.state.records import Account, RunHead, SegmentRecord
from swarm.ledger.state.state import State, money_in
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest, peer_name
from swarm.types import Amount, PeerId


@dataclass(frozen=True, slots=True)
class Restart:
    """A new genesis, and what its founders should know about the old network."""

    genesis: Genesis
    power: Amount
    """Power of all that vote on the next block of the old network."""
    power_left_out: Amount
    """Part of it that belongs to validators which the new network does not begin with."""

    @property
    def may_fork(self) -> bool:
        """True unless more than a third of the old power founds the new network.

        Otherwise those left out could go on with the old one, and its money would be there twice.
        """
        return 3 * self.power_left_out > 2 * self.power


def restart(old: Genesis, state: State, validators: Sequence[PeerId]) -> Restart:
    """Return the genesis with which the peers of a network begin anew, from its last final state.

    Raises:
        UsageError: If a validator has no stake, or less than a validator needs.
        BadConfig: If the genesis would be out of bounds, with more than 10,000 accounts, say.
    """
    chosen = tuple(sorted(set(validators)))
    for peer in chosen:
        stake = state.account(peer).stake
        if stake < max(state.params.validator_stake, 1):
            raise UsageError(
                f"{peer_name(peer)} has a stake of {stake} where a validator has"
                f" {state.params.validator_stake}",
                hint="swarm ledger validators   names who may",
            )
    balances, stakes = _money_of(state)
    peers = sorted({peer for peer in (*balances, *stakes) if balances[peer] or stakes[peer]})
    names = encode((state.height, chosen))
    genesis = replace(
        old,
        accounts=tuple(
            GenesisAccount(peer, Amount(balances[peer]), Amount(stakes[peer])) for peer in peers
        ),
        validators=chosen,
        seed=digest("restart", state.chain, state.root, names),
    )
    check_genesis(genesis)
    voters = state.validators
    left_out = sum(voter.power for voter in voters if voter.peer not in chosen)
    return Restart(genesis, Amount(sum(voter.power for voter in voters)), Amount(left_out))


def _money_of(state: State) -> tuple[Counter[PeerId], Counter[PeerId]]:
    """Return the balances and the stakes of all peers, with all that is held for them."""
    balances, stakes = Counter[PeerId](), Counter[PeerId]()
    for key, entry in state.entries.items():
        match entry:
            case Account():
                peer = PeerId(key[1:])
                balances[peer] += entry.balance + sum(part.amount for part in entry.unbonding)
                stakes[peer] += entry.stake
            case RunHead():
                balances[entry.owner] += entry.escrow
            case SegmentRecord():
                balances[state.run(entry.run).owner] += entry.held + entry.reserved
                for check in entry.checks:
                    balances[check.peer] += check.bond
                for accusation in entry.accusations:
                    balances[accusation.peer] += accusation.bond
                for demand in entry.demands:
                    balances[demand.peer] += demand.bond
                for contest in entry.contests:
                    balances[entry.checks[contest.check].peer] += contest.bond
            case _:
                pass
    held = sum(money_in(e) for _, e in state.entries.items() if not isinstance(e, PayoutLog))
    assert balances.total() + stakes.total() == held, "all money is somebody's"
    return balances, stakes
