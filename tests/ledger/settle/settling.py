"""A ledger whose validators settle by a contract on a chain in this process, or on anvil."""

import os
from collections.abc import Sequence

from swarm.ledger.payouts import key_digest, payout_leaf, statement_digest
from swarm.ledger.settle.contract import Contract, Key, Receipt, Terms, Wallet, deploy, recover
from swarm.ledger.settle.engine import hex_number
from swarm.ledger.settle.plan import (
    Claim,
    ContractState,
    Posting,
    free_slot,
    kept_statements,
    pack_votes,
    plan_claim,
    plan_posting,
    present_members,
)
from swarm.ledger.settle.rpc import HttpEngine
from swarm.ledger.settlement_statements import SettlementKey, SignPayouts, Withdraw
from swarm.ledger.state.payouts import PayoutStatement, SettlementMember, SettlementTarget
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body
from swarm.ledger.transition.settlement import settlement_members
from swarm.primitives.merkle import merkle_proof, merkle_root, sha256_hash
from swarm.testing.evm import START_WEI, TestEngine, TimedEngine
from swarm.testing.ledger import InMemoryLedger
from swarm.types import Amount, Digest

EPOCH = 10
WINDOW_S, BOND_WEI, UNIT_WEI = 3_600, 10**16, 10**12
GAS_PRICE_MAX = 10**11
FUNDS_WEI = 10**18
OWN, OTHER = bytes([0xA1]) * 20, bytes([0xA2]) * 20

Leaf = tuple[bytes, int]


class AnvilEngine(HttpEngine, TimedEngine):
    """Chain of a running anvil, whose first accounts are made rich."""

    def __init__(self, url: str, addresses: Sequence[bytes]) -> None:
        super().__init__(url)
        for address in addresses:
            self.ask("anvil_setBalance", "0x" + address.hex(), hex(START_WEI))

    def keep(self) -> object:
        """Return a mark to which ``restore`` goes back."""
        return self.ask("evm_snapshot")

    def restore(self, mark: object) -> None:
        """Go back to a mark."""
        self.ask("evm_revert", mark)

    def pass_time(self, seconds: int) -> None:
        """Let time pass on the chain."""
        self.ask("evm_increaseTime", seconds)
        self.ask("evm_mine")


def an_engine() -> TimedEngine:
    """A fresh chain: anvil at $SWARM_ANVIL, or py-evm in this process."""
    url = os.environ.get("SWARM_ANVIL", "")
    if not url:
        return TestEngine()
    return AnvilEngine(url, [Key(TimedEngine.secret(number)).address for number in range(10)])


def settling_key(number: int) -> Key:
    """The settlement key of a validator."""
    return Key(sha256_hash(b"settlement key %d" % number))


class Bridge:
    """A ledger with its contract."""

    def __init__(
        self, engine: TimedEngine, num_validators: int = 4, funds: int = FUNDS_WEI
    ) -> None:
        self.engine = engine
        self.ledger = InMemoryLedger(8, num_validators, epoch_blocks=EPOCH)
        self.wallet = Wallet(engine, Key(engine.secret(0)), GAS_PRICE_MAX)
        self.validators = range(num_validators)
        for number in self.validators:
            self.register(number, None)
        self.members = settlement_members(self.state, None)
        terms = Terms(WINDOW_S, BOND_WEI, UNIT_WEI)
        self.deployed = deploy(self.wallet, self.state.chain, self.members, terms)
        chain = hex_number(engine.ask("eth_chainId"))
        self.target = SettlementTarget(chain, self.deployed.contract)
        for number in self.validators:
            self.register(number, self.target)
        self.contract = Contract(engine, self.target)
        if funds:
            self.wallet.send(self.target.contract, b"", funds)

    @property
    def state(self) -> State:
        """The ledger's state."""
        return self.ledger.state

    @property
    def view(self) -> ContractState:
        """The contract's state."""
        return self.contract.read()

    def submit(self, number: int, body: Body) -> None:
        """Put a statement into the next block."""
        self.ledger.block(self.ledger.sign(self.ledger.keys[number], body))

    def register(self, number: int, target: SettlementTarget | None) -> None:
        """Register the settlement key of a validator."""
        key, peer = settling_key(number), self.ledger.keys[number].peer
        proof = key.sign_digest(key_digest(self.state.chain, peer, key.address))
        chain, contract = (target.evm_chain, target.contract) if target else (0, b"")
        self.submit(number, SettlementKey(key.address, proof, chain, contract))

    def withdraw(self, number: int, amount: int, address: bytes = OWN) -> None:
        """Withdraw an amount to an address."""
        self.submit(number, Withdraw(Amount(amount), address))

    def end_epoch(self) -> PayoutStatement:
        """Make the blocks up to the last one of this epoch; give the newest statement."""
        self.ledger.empty_blocks(EPOCH - 1 - self.state.height % EPOCH or EPOCH)
        return kept_statements(self.state)[0]

    def sign(self, statement: PayoutStatement, *numbers: int) -> None:
        """Post the signatures of validators on a statement."""
        digest = statement_digest(self.state.chain, self.target, statement)
        for number in numbers or self.validators:
            signature = settling_key(number).sign_digest(digest)
            self.submit(number, SignPayouts(statement.epoch, signature))

    def present(self) -> tuple[SettlementMember, ...]:
        """The present signers of the contract."""
        view = self.view
        return present_members(self.state, view, lambda: self.contract.announced(view.era))

    def post(self) -> Receipt:
        """Post the newest statement that enough have signed."""
        posting, _ = plan_posting(self.state, self.view, self.present(), recover)
        return self.contract.post(self.wallet, posting, BOND_WEI)

    def settle(self, *withdrawals: tuple[int, int, bytes]) -> PayoutStatement:
        """Withdraw, end the epoch, sign, and post."""
        for number, amount, address in withdrawals:
            self.withdraw(number, amount, address)
        statement = self.end_epoch()
        self.sign(statement)
        self.post()
        return statement

    def claim(self, address: bytes = OWN) -> Receipt:
        """Claim what is due to an address."""
        plan = plan_claim(self.state, self.view, address, self.contract.claimed(address))
        return self.contract.claim(self.wallet, plan)

    def wei(self, address: bytes) -> int:
        """The ether of an address."""
        return hex_number(self.engine.ask("eth_getBalance", "0x" + address.hex(), "latest"))

    def forged(
        self,
        leaves: Sequence[Leaf],
        epoch: int,
        signers: Sequence[int],
        *,
        members: Sequence[SettlementMember] = (),
        heirs: Sequence[SettlementMember] = (),
        target: SettlementTarget | None = None,
    ) -> Posting:
        """A root of any leaves, signed by these validators: what a dishonest quorum could make."""
        present = tuple(members or self.members)
        root = merkle_root([payout_leaf(*leaf) for leaf in leaves], sha256_hash)
        statement = PayoutStatement(epoch, len(leaves), root, tuple(heirs) or present, ())
        digest = statement_digest(self.state.chain, target or self.target, statement)
        keys = [settling_key(number) for number in signers]
        votes = pack_votes(present, {key.address: key.sign_digest(digest) for key in keys})
        slot = free_slot(self.view)
        return Posting(
            slot=slot if slot is not None else 0,
            statement=statement,
            members=present,
            heirs=tuple(heirs),
            votes=votes,
            signed=0,
            power=0,
        )

    def post_forged(self, leaves: Sequence[Leaf], epoch: int, *signers: int) -> int:
        """Post such a root; give its slot."""
        posting = self.forged(leaves, epoch, signers or list(self.validators))
        self.contract.post(self.wallet, posting, BOND_WEI)
        return posting.slot


def leaf_claim(slot: int, leaves: Sequence[Leaf], index: int) -> Claim:
    """A claim of a leaf under the root of these leaves."""
    packed = [payout_leaf(*leaf) for leaf in leaves]
    address, total = leaves[index]
    proof = merkle_proof(packed, index, sha256_hash)
    return Claim(slot, len(leaves), index, address, total, total, proof)


def root_of(leaves: Sequence[Leaf]) -> Digest:
    """The root of these leaves."""
    return merkle_root([payout_leaf(*leaf) for leaf in leaves], sha256_hash)
