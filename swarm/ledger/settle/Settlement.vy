# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Payouts of a swarm ledger
@license Apache-2.0
@notice Pays ether to addresses, up to the totals in a log that validators of a swarm ledger have signed.
@dev Signers are known by a hash of their list: a word for each, 20 bytes of address, 12 bytes of power. More than two
     thirds of the power sign an epoch, the root of the log at its end, and the hash of the next list. A root waits for
     WINDOW seconds, in which it can be proved wrong: by a second quorum for another root of its epoch, or by leaves that
     no honest log has. Its poster puts up BOND, which is back after that, or the challenger's.
     A leaf is an address and the sum of all that was ever withdrawn to it; the contract notes what it has paid.
     Hashes are SHA-256, as on the ledger; the tree is padded to a power of two, and its root seals the number of leaves.
"""

MEMBERS: constant(uint256) = 64
LIST: constant(uint256) = 32 * MEMBERS  # bytes of a list of signers
VOTES: constant(uint256) = 64 * MEMBERS  # bytes of their signatures
SLOTS: constant(uint256) = 8
DEPTH: constant(uint256) = 32
PURPOSE: constant(bytes32) = 0x737761726d2f736574746c656d656e742f73746174656d656e742f3100000000  # "swarm/settlement/statement/1"

E_BOND: constant(bytes4) = method_id("Bond()", output_type=bytes4)
E_EPOCH: constant(bytes4) = method_id("Epoch()", output_type=bytes4)
E_FULL: constant(bytes4) = method_id("Full()", output_type=bytes4)
E_NO_BOND: constant(bytes4) = method_id("NoBond()", output_type=bytes4)
E_SAME: constant(bytes4) = method_id("Same()", output_type=bytes4)
E_CONSISTENT: constant(bytes4) = method_id("Consistent()", output_type=bytes4)
E_WINDOW: constant(bytes4) = method_id("Window()", output_type=bytes4)
E_NOTHING_DUE: constant(bytes4) = method_id("NothingDue()", output_type=bytes4)
E_FUNDS: constant(bytes4) = method_id("Funds()", output_type=bytes4)
E_MEMBERS: constant(bytes4) = method_id("Members()", output_type=bytes4)
E_SIGNERS: constant(bytes4) = method_id("Signers()", output_type=bytes4)
E_SIGNATURE: constant(bytes4) = method_id("Signature()", output_type=bytes4)
E_QUORUM: constant(bytes4) = method_id("Quorum()", output_type=bytes4)
E_PROOF: constant(bytes4) = method_id("Proof()", output_type=bytes4)
E_CLOSED: constant(bytes4) = method_id("Closed()", output_type=bytes4)

U36: constant(uint256) = 2**36 - 1
U40: constant(uint256) = 2**40 - 1
U19: constant(uint256) = 2**19 - 1
HELD: constant(uint256) = 2**95


struct Leaf:
    slot: uint256
    count: uint256  # leaves of the log under the root of the slot
    index: uint256
    account: address
    total: uint256  # units of the ledger
    proof: DynArray[bytes32, DEPTH]


event Posted:
    epoch: indexed(uint256)
    slot: uint256
    root: bytes32


event Rotated:
    era: indexed(uint256)
    members: Bytes[LIST]


event Refuted:
    slot: indexed(uint256)
    by: address


event Claimed:
    account: indexed(address)
    paid: uint256


LEDGER: public(immutable(bytes32))
WINDOW: public(immutable(uint256))
BOND: public(immutable(uint256))
UNIT: public(immutable(uint256))

head: public(uint256)  # least epoch of the next root (40 bits) | era (19) | bonds held
sets: public(HashMap[uint256, bytes32])  # era -> hash of its signers
roots: public(bytes32[SLOTS])  # 0: never posted, or refuted
metas: public(uint256[SLOTS])  # posted at (36 bits) | epoch (40) | era (19) | bond is held (1) | poster (160)
claimed: public(HashMap[address, uint256])  # units paid so far


@deploy
def __init__(
    ledger: bytes32, members: Bytes[LIST], window: uint256, bond: uint256, unit: uint256
):
    """
    @param ledger Chain id of the swarm ledger.
    @param members The first signers.
    @param window Seconds in which a root can be proved wrong.
    @param bond Wei that a poster puts up.
    @param unit Wei for a unit of the ledger.
    """
    assert unit > 0 and window > 0 and window < U36
    LEDGER = ledger
    WINDOW = window
    BOND = bond
    UNIT = unit
    self._check_members(members)
    self.sets[0] = sha256(members)
    log Rotated(era=0, members=members)


@external
@payable
def __default__():
    """
    @notice Fund the payouts.
    """
    pass


@external
@payable
@nonreentrant
def post(
    slot: uint256,
    epoch: uint256,
    root: bytes32,
    members: Bytes[LIST],
    heirs: Bytes[LIST],
    votes: Bytes[VOTES],
):
    """
    @notice Post the root of an epoch, with a bond; hand over to the next signers where these differ.
    @param slot Where it goes: a slot that is free, or has a final root that is not the newest of those.
    @param members The present signers.
    @param heirs The next signers; empty if they are the present ones.
    @param votes 64 bytes for each member: its signature in the form of EIP-2098, or zeros.
    """
    self._need(msg.value == BOND, E_BOND)
    head: uint256 = self.head
    era: uint256 = (head >> 40) & U19
    bonds: uint256 = (head >> 59) + 1
    self._need(epoch >= head & U40 and epoch < U40, E_EPOCH)
    assert root != empty(bytes32)
    present: bytes32 = self.sets[era]
    after: bytes32 = present
    if len(heirs) != 0:
        after = sha256(heirs)
    self._check_quorum(self._digest(epoch, root, after), present, members, votes)
    old: uint256 = self.metas[slot]
    if self.roots[slot] != empty(bytes32):
        self._need(self._is_final(old) and self._has_newer(slot, (old >> 36) & U40), E_FULL)
    self.roots[slot] = root
    self.metas[slot] = (
        block.timestamp | (epoch << 36) | (era << 76) | HELD | (convert(msg.sender, uint256) << 96)
    )
    if old & HELD != 0:
        bonds -= 1
    if after != present:
        self._check_members(heirs)
        era += 1
        assert era <= U19
        self.sets[era] = after
        log Rotated(era=era, members=heirs)
    self.head = (epoch + 1) | (era << 40) | (bonds << 59)
    log Posted(epoch=epoch, slot=slot, root=root)
    if old & HELD != 0:
        self._give_back(old)


@external
@nonreentrant
def release(slot: uint256):
    """
    @notice Give the bond of a root back to its poster, once nobody can prove it wrong any more.
    """
    meta: uint256 = self.metas[slot]
    self._need(meta & HELD != 0 and self._is_final(meta), E_NO_BOND)
    self.metas[slot] = meta ^ HELD
    self.head -= 1 << 59
    self._give_back(meta)


@external
@nonreentrant
def challenge_signatures(
    slot: uint256,
    root: bytes32,
    after: bytes32,
    members: Bytes[LIST],
    votes: Bytes[VOTES],
):
    """
    @notice Refute a root by a second quorum of its signers for another root of its epoch.
    @param after Hash of the next signers in that other statement.
    """
    meta: uint256 = self.metas[slot]
    self._need(root != self.roots[slot], E_SAME)
    digest: bytes32 = self._digest((meta >> 36) & U40, root, after)
    self._check_quorum(digest, self.sets[(meta >> 76) & U19], members, votes)
    self._refute(slot)
    self._reward(1)


@external
@nonreentrant
def challenge_leaves(a: Leaf, b: Leaf):
    """
    @notice Refute the root of `b` by two leaves that no log has: leaves are only added, and totals only grow.
    @dev Where the root of `a` is an earlier one that can be proved wrong as well, both go: one of them is wrong.
    """
    self._check_leaf(a, self.roots[a.slot])
    self._check_leaf(b, self.roots[b.slot])
    first: uint256 = (self.metas[a.slot] >> 36) & U40
    second: uint256 = (self.metas[b.slot] >> 36) & U40
    differs: bool = a.index == b.index and (a.account != b.account or a.total != b.total)
    shrank: bool = a.index < b.index and a.account == b.account and a.total >= b.total
    is_wrong: bool = shrank and first <= second
    if first < second:
        is_wrong = is_wrong or differs or b.count < a.count
    self._need(is_wrong, E_CONSISTENT)
    bonds: uint256 = 1
    self._refute(b.slot)
    if first < second and not self._is_final(self.metas[a.slot]):
        self._refute(a.slot)
        bonds = 2
    self._reward(bonds)


@external
@nonreentrant
def claim(leaf: Leaf):
    """
    @notice Pay an address what the log owes it and the contract has not paid yet; anybody may ask for it.
    """
    self._need(self._is_final(self.metas[leaf.slot]), E_WINDOW)
    self._check_leaf(leaf, self.roots[leaf.slot])
    before: uint256 = self.claimed[leaf.account]
    self._need(leaf.total > before, E_NOTHING_DUE)
    paid: uint256 = (leaf.total - before) * UNIT
    self._need(self.balance >= paid + (self.head >> 59) * BOND, E_FUNDS)
    self.claimed[leaf.account] = leaf.total
    log Claimed(account=leaf.account, paid=paid)
    raw_call(leaf.account, b"", value=paid)


@pure
@internal
def _need(holds: bool, error: bytes4):
    if not holds:
        raw_revert(slice(convert(error, bytes32), 0, 4))


@view
@internal
def _is_final(meta: uint256) -> bool:
    return (meta & U36) + WINDOW <= block.timestamp


@view
@internal
def _has_newer(slot: uint256, epoch: uint256) -> bool:
    """
    @dev The newest root that can be claimed from is never overwritten.
    """
    for i: uint256 in range(1, SLOTS):
        other: uint256 = (slot + i) % SLOTS
        meta: uint256 = self.metas[other]
        if (meta >> 36) & U40 > epoch and self._is_final(meta) and self.roots[other] != empty(bytes32):
            return True
    return False


@pure
@internal
def _check_members(members: Bytes[LIST]):
    assert len(members) != 0 and len(members) % 32 == 0
    last: uint256 = 0
    for i: uint256 in range(MEMBERS):
        if i * 32 == len(members):
            break
        member: uint256 = extract32(members, i * 32, output_type=uint256)
        self._need(member >> 96 > last and member % 2**96 != 0, E_MEMBERS)
        last = member >> 96


@view
@internal
def _digest(epoch: uint256, root: bytes32, after: bytes32) -> bytes32:
    return sha256(abi_encode(PURPOSE, chain.id, self, LEDGER, epoch, root, after))


@view
@internal
def _check_quorum(
    digest: bytes32,
    present: bytes32,
    members: Bytes[LIST],
    votes: Bytes[VOTES],
):
    self._need(sha256(members) == present, E_SIGNERS)
    assert len(votes) == 2 * len(members)
    total: uint256 = 0
    power: uint256 = 0
    for i: uint256 in range(MEMBERS):
        if i * 32 == len(members):
            break
        member: uint256 = extract32(members, i * 32, output_type=uint256)
        weight: uint256 = member % 2**96
        total += weight
        r: uint256 = extract32(votes, i * 64, output_type=uint256)
        if r != 0:
            s: uint256 = extract32(votes, i * 64 + 32, output_type=uint256)
            signer: address = ecrecover(digest, 27 + (s >> 255), r, s & (2**255 - 1))
            self._need(convert(signer, uint256) == member >> 96, E_SIGNATURE)
            power += weight
    self._need(3 * power > 2 * total, E_QUORUM)


@pure
@internal
def _check_leaf(leaf: Leaf, root: bytes32):
    node: bytes32 = sha256(concat(b"\x00", convert(leaf.account, bytes20), convert(leaf.total, bytes32)))
    index: uint256 = leaf.index
    for sibling: bytes32 in leaf.proof:
        left: bytes32 = node
        right: bytes32 = sibling
        if index & 1 != 0:
            left = sibling
            right = node
        node = sha256(concat(b"\x01", left, right))
        index >>= 1
    seal: bytes8 = convert(convert(leaf.count, uint64), bytes8)
    self._need(
        leaf.index < leaf.count
        and (leaf.count - 1) >> len(leaf.proof) == 0
        and root != empty(bytes32)
        and sha256(concat(b"\x03", seal, node)) == root,
        E_PROOF,
    )


@internal
def _refute(slot: uint256):
    meta: uint256 = self.metas[slot]
    self._need(self.roots[slot] != empty(bytes32) and not self._is_final(meta), E_CLOSED)
    self.roots[slot] = empty(bytes32)
    self.metas[slot] = meta ^ HELD
    log Refuted(slot=slot, by=msg.sender)


@internal
def _reward(bonds: uint256):
    self.head -= bonds << 59
    raw_call(msg.sender, b"", value=bonds * BOND)


@internal
def _give_back(meta: uint256):
    """
    @dev A poster that takes no money loses its bond to the payouts, and holds up nobody.
    """
    to: address = convert(meta >> 96, address)
    ok: bool = raw_call(to, b"", value=BOND, gas=30000, revert_on_failure=False)
