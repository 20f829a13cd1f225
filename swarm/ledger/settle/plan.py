"""Decide what to bring to the contract, from the ledger's state and the contract's.

Core: frozen structs and pure functions. Recovering the signer of a signature is a parameter.

Everything that the contract would refuse is found here first, with a reason for people. Signatures that do not
hold are dropped here, and named.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarm.errors import InvalidStatement, Reason, SwarmError, VerificationFailed
from swarm.ledger.payouts import (
    WORD,
    address_text,
    find_key,
    find_log,
    find_payout,
    find_statement,
    key_digest,
    log_root,
    member_word,
    members_digest,
    newest_payout,
    payout_leaf,
    prove_payout,
    statement_digest,
    with_leaf,
)
from swarm.ledger.settlement_statements import ADDRESS_BYTES
from swarm.ledger.state.payouts import (
    PayoutLog,
    PayoutSignature,
    PayoutStatement,
    SettlementMember,
    SettlementTarget,
)
from swarm.ledger.state.state import State
from swarm.primitives.crypto import peer_name
from swarm.types import NO_DIGEST, Amount, Digest, PeerId

SLOTS = 8
POWER_BYTES = WORD - ADDRESS_BYTES

Recover = Callable[[Digest, bytes], bytes | None]
"""Return the address whose key made a signature of a digest; None if it is none."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A root that was posted."""

    index: int
    root: Digest
    """``NO_DIGEST`` if nothing was posted here, or it was refuted."""
    posted_s: int
    epoch: int
    era: int
    is_held: bool
    """True while the bond is not given back."""
    poster: bytes


@dataclass(frozen=True, slots=True)
class ContractState:
    """The contract as an engine shows it."""

    target: SettlementTarget
    ledger: Digest
    window_s: int
    bond_wei: int
    unit_wei: int
    next_epoch: int
    """Least epoch of the next root."""
    era: int
    num_bonds: int
    members: Digest
    """Hash of the present signers."""
    slots: tuple[Slot, ...]
    balance_wei: int
    now_s: int
    """Time of the newest block."""

    @property
    def funds_wei(self) -> int:
        """Wei that can be paid out: bonds are not."""
        return max(self.balance_wei - self.num_bonds * self.bond_wei, 0)

    def wait_s(self, slot: Slot) -> int:
        """Return the seconds until a root can be claimed from; 0 if it can."""
        return max(slot.posted_s + self.window_s - self.now_s, 0)


def parse_slot(index: int, root: bytes, meta: int) -> Slot:
    """Return a slot from its two words in storage."""
    return Slot(
        index=index,
        root=Digest(root),
        posted_s=meta & (1 << 36) - 1,
        epoch=meta >> 36 & (1 << 40) - 1,
        era=meta >> 76 & (1 << 19) - 1,
        is_held=bool(meta >> 95 & 1),
        poster=(meta >> 96).to_bytes(20, "big"),
    )


def parse_head(head: int) -> tuple[int, int, int]:
    """Return (least epoch of the next root, era, bonds held) from their word in storage."""
    return head & (1 << 40) - 1, head >> 40 & (1 << 19) - 1, head >> 59


def free_slot(view: ContractState) -> int | None:
    """Return the slot for the next root: a free one, or that of the oldest final root but the newest."""
    for slot in view.slots:
        if slot.root == NO_DIGEST:
            return slot.index
    final = sorted((slot.epoch, slot.index) for slot in view.slots if not view.wait_s(slot))
    return final[0][1] if len(final) > 1 else None


def pack_members(members: Sequence[SettlementMember]) -> bytes:
    """Return a list of signers as the contract takes it."""
    return b"".join(map(member_word, members))


def parse_members(packed: bytes) -> tuple[SettlementMember, ...]:
    """Return the signers of a list that the contract announced."""
    words = (packed[at : at + WORD] for at in range(0, len(packed), WORD))
    return tuple(
        SettlementMember(word[:-POWER_BYTES], Amount(int.from_bytes(word[-POWER_BYTES:], "big")))
        for word in words
    )


def compact_signature(signature: bytes) -> bytes | None:
    """Return r, s and the recovery id in 64 bytes; None if s is in the upper half of its range (EIP-2098)."""
    r, s, odd = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    return None if s >> 255 or odd > 1 or not any(r) else r + (s | odd << 255).to_bytes(32, "big")


def pack_votes(members: Sequence[SettlementMember], signatures: Mapping[bytes, bytes]) -> bytes:
    """Return the signatures in the order of ``members``, zeros where there is none."""
    packed = (
        compact_signature(signatures[m.address]) if m.address in signatures else None
        for m in members
    )
    return b"".join(one or bytes(64) for one in packed)


def signed_power(
    members: Sequence[SettlementMember], signatures: Mapping[bytes, bytes]
) -> tuple[int, int]:
    """Return the power that has signed, and all of it."""
    signed = sum(m.power for m in members if m.address in signatures)
    return signed, sum(m.power for m in members)


@dataclass(frozen=True, slots=True)
class Ballot:
    """Signatures on a statement that hold, and those that do not."""

    valid: Mapping[bytes, bytes]
    """Signature by address."""
    broken: tuple[PayoutSignature, ...]


def count_signatures(
    state: State, target: SettlementTarget, statement: PayoutStatement, recover: Recover
) -> Ballot:
    """Find the key behind every signature that was posted on a statement.

    One holds if its key is a signer of a kept statement, or the registered key of who posted it. Any other is
    broken: junk recovers to a key that nobody has.
    """
    digest = statement_digest(state.chain, target, statement)
    known = {member.address for one in kept_statements(state) for member in one.members}
    valid, broken = dict[bytes, bytes](), list[PayoutSignature]()
    for one in statement.signatures:
        key, has_form = find_key(state, one.peer), compact_signature(one.signature) is not None
        address = recover(digest, one.signature) if has_form else None
        is_own = key is not None and address == key.address
        if address is not None and (is_own or address in known):
            valid[address] = one.signature
        else:
            broken.append(one)
    return Ballot(valid, tuple(broken))


def unproved_keys(state: State, recover: Recover) -> list[PeerId]:
    """Return the validators that registered a key without showing that it is theirs."""
    keys = ((v.peer, find_key(state, v.peer)) for v in state.validators)
    return [
        peer
        for peer, key in keys
        if key is not None
        and recover(key_digest(state.chain, peer, key.address), key.proof) != key.address
    ]


@dataclass(frozen=True, slots=True)
class Posting:
    """A root that can be posted."""

    slot: int
    statement: PayoutStatement
    members: tuple[SettlementMember, ...]
    """The present signers."""
    heirs: tuple[SettlementMember, ...]
    """The next ones; empty if they are the present ones."""
    votes: bytes
    signed: int
    power: int


class NothingToDo(SwarmError):
    """Nothing to settle: the contract is where the ledger is."""


def settlement_log(state: State) -> PayoutLog:
    """Return the log of payouts; raise ``InvalidStatement`` where the network settles on no contract."""
    log = find_log(state)
    if log is None:
        raise InvalidStatement(Reason.WRONG_PHASE, "this network settles on no contract")
    return log


def kept_statements(state: State) -> list[PayoutStatement]:
    """Return the statements kept, newest first."""
    found = (find_statement(state, epoch) for epoch in reversed(settlement_log(state).statements))
    return [statement for statement in found if statement is not None]


def present_members(
    state: State, view: ContractState, announced: Callable[[], bytes]
) -> tuple[SettlementMember, ...]:
    """Return the present signers: from a kept statement, or as the contract announced them."""
    for statement in kept_statements(state):
        if members_digest(statement.members) == view.members:
            return statement.members
    members = parse_members(announced())
    if members_digest(members) != view.members:
        raise VerificationFailed("the engine shows other signers than the contract has")
    return members


def plan_posting(
    state: State, view: ContractState, members: Sequence[SettlementMember], recover: Recover
) -> tuple[Posting, list[PayoutSignature]]:
    """Return the newest statement that the contract would take, and the signatures that do not hold.

    Raises:
        NothingToDo: The newest statement is posted, or there is none.
        VerificationFailed: Too little power has signed any statement.
    """
    broken, best, slot = list[PayoutSignature](), (0, 1), free_slot(view)
    last = max((slot.epoch for slot in view.slots if slot.root != NO_DIGEST), default=-1)
    newer = [one for one in kept_statements(state) if one.epoch >= view.next_epoch]
    if not newer:
        raise NothingToDo(
            "the newest payouts are posted" if last >= 0 else "no epoch has ended with payouts yet",
            hint="swarm settlement show",
        )
    if slot is None:
        wait = min(wait for one in view.slots if (wait := view.wait_s(one)))
        raise NothingToDo(f"all {SLOTS} roots posted wait for their window to end: {wait:,} s more")
    for statement in newer:
        ballot = count_signatures(state, view.target, statement, recover)
        broken += ballot.broken
        signed, power = signed_power(members, ballot.valid)
        if 3 * signed > 2 * power:
            heirs = () if members_digest(statement.members) == view.members else statement.members
            votes = pack_votes(members, ballot.valid)
            posting = Posting(
                slot=slot,
                statement=statement,
                members=tuple(members),
                heirs=heirs,
                votes=votes,
                signed=signed,
                power=power,
            )
            return posting, broken
        best = max(best, (signed, power))
    signed, power = best[0], sum(member.power for member in members)
    missing = f"{100 * signed // max(power, 1)}% of the power has signed"
    names = ", ".join(sorted({peer_name(one.peer) for one in broken}))
    bad = f"; signatures of {names} do not hold" if names else ""
    raise VerificationFailed(
        f"not enough signatures: {missing}, and more than two thirds must{bad}",
        hint="validators sign with: swarm settlement sign --key FILE",
    )


def known_roots(state: State, wanted: Iterable[Digest]) -> dict[Digest, int]:
    """Return the number of leaves under each root that this ledger's log has had."""
    left = {root for root in wanted if root != NO_DIGEST}
    found = {s.root: s.count for s in kept_statements(state) if s.root in left}
    if left <= found.keys():
        return found
    log, peaks = settlement_log(state), tuple[Digest, ...]()
    for count in range(log.count + 1):
        root = log_root(peaks, count)
        if root in left:
            found[root] = count
        payout = find_payout(state, count)
        if payout is not None:
            peaks = with_leaf(peaks, count, payout_leaf(payout.address, payout.total))
    return found


def check_roots(state: State, view: ContractState) -> dict[Digest, int]:
    """Return the number of leaves under each posted root; raise ``VerificationFailed`` at one not ours."""
    posted = [slot for slot in view.slots if slot.root != NO_DIGEST]
    newest = max(settlement_log(state).statements, default=-1)
    counts = known_roots(state, [slot.root for slot in posted])
    for slot in posted:
        if slot.root not in counts and slot.epoch <= newest:
            raise VerificationFailed(
                f"the root in slot {slot.index}, of epoch {slot.epoch}, is not one of this ledger",
                hint="validators have signed what the ledger does not say: docs/settlement.md",
            )
    return counts


def plan_challenges(
    state: State, view: ContractState, announced: Callable[[int], bytes], recover: Recover
) -> list[Posting]:
    """Return what refutes each root that is not this ledger's: its own statement of that epoch, signed as well.

    Raises:
        NothingToDo: All roots are this ledger's.
        VerificationFailed: A root is not, and its signers have not signed this ledger's.
    """
    known = known_roots(state, [slot.root for slot in view.slots])
    posted = (slot for slot in view.slots if slot.root != NO_DIGEST)
    foreign = [slot for slot in posted if _is_foreign(state, slot, known)]
    if not foreign:
        raise NothingToDo("all roots are this ledger's", hint="swarm settlement show")
    found = list[Posting]()
    for slot in foreign:
        statement = find_statement(state, slot.epoch)
        if statement is None or not view.wait_s(slot):
            continue
        members = parse_members(announced(slot.era))
        ballot = count_signatures(state, view.target, statement, recover)
        signed, power = signed_power(members, ballot.valid)
        if 3 * signed > 2 * power:
            found.append(
                Posting(
                    slot=slot.index,
                    statement=statement,
                    members=members,
                    heirs=(),
                    votes=pack_votes(members, ballot.valid),
                    signed=signed,
                    power=power,
                )
            )
    if not found:
        raise VerificationFailed(
            f"the root of epoch {foreign[0].epoch} is not this ledger's, and cannot be refuted by signatures",
            hint="its leaves may do: docs/settlement.md",
        )
    return found


def _is_foreign(state: State, slot: Slot, known: Mapping[Digest, int]) -> bool:
    statement = find_statement(state, slot.epoch)
    newest = max(settlement_log(state).statements, default=-1)
    is_known = slot.epoch > newest or slot.root in known
    return not is_known or (statement is not None and statement.root != slot.root)


@dataclass(frozen=True, slots=True)
class Claim:
    """A leaf that can be claimed."""

    slot: int
    count: int
    index: int
    address: bytes
    total: int
    due: int
    """Units that the contract has not paid yet."""
    proof: tuple[bytes, ...]


def plan_claim(state: State, view: ContractState, address: bytes, claimed: int) -> Claim:
    """Return the claim of an address that pays most; raise ``NothingToDo`` with the reason if none pays.

    ``claimed`` is what the contract has paid to it, in units.
    """
    counts, waits = check_roots(state, view), list[int]()
    best: tuple[int, Slot, int] | None = None
    for slot in view.slots:
        count = counts.get(slot.root, 0)
        found = newest_payout(state, address, count)
        if found is None or found[1].total <= claimed:
            continue
        if view.wait_s(slot):
            waits.append(view.wait_s(slot))
        elif best is None or found[1].total > best[0]:
            best = found[1].total, slot, found[0]
    if best is None:
        raise NothingToDo(
            _why_nothing(state, address, claimed, waits), hint="swarm settlement show"
        )
    total, slot, index = best
    count = counts[slot.root]
    due = total - claimed
    if due * view.unit_wei > view.funds_wei:
        raise NothingToDo(
            f"the contract has {view.funds_wei} wei where {due * view.unit_wei} are due",
            hint=f"somebody must fund {address_text(view.target.contract)}",
        )
    proof = prove_payout(state, index, count)
    return Claim(
        slot=slot.index,
        count=count,
        index=index,
        address=address,
        total=total,
        due=due,
        proof=proof,
    )


def _why_nothing(state: State, address: bytes, claimed: int, waits: Sequence[int]) -> str:
    found = newest_payout(state, address, settlement_log(state).count)
    if found is None:
        return f"nothing was withdrawn to {address_text(address)}"
    if found[1].total <= claimed:
        return f"all {claimed:,} units withdrawn to {address_text(address)} are claimed"
    due = f"{found[1].total - claimed:,} units wait"
    if waits:
        return f"{due}: their root can be proved wrong for {min(waits):,} s more"
    return f"{due} until an epoch has ended and its root is posted (swarm ledger settle)"
