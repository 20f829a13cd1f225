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
     Arithmetic is unchecked where bounds hold it: 64 powers of 96 bits, times of 36, epochs of 40, eras of 19. No function
     needs a lock: all is written before money is sent. A list of heirs is as good as the quorum that signed it.
     A leaf is an address and the sum of all that was ever withdrawn to it; the contract notes what it has paid.
     Hashes are SHA-256, as on the ledger; the tree is padded to a power of two, and its root seals the number of leaves.
"""

MEMBERS: constant(uint256) = 64
LIST: constant(uint256) = 32 * MEMBERS  # bytes of a list of signers
VOTES: constant(uint256) = 64 * MEMBERS  # bytes of their signatures
SLOTS: constant(uint256) = 8
DEPTH: constant(uint256) = 32
PURPOSE: constant(bytes32) = 0x737761726d2f736574746c656d656e742f73746174656d656e742f3100000000  # "swarm/settlement/statement/1"

# Selectors of custom errors.
E_BOND: constant(uint256) = 1188905985  # Bond()
E_EPOCH: constant(uint256) = 1872262308  # Epoch()
E_FULL: constant(uint256) = 4084136815  # Full()
E_NO_BOND: constant(uint256) = 3754008462  # NoBond()
E_SAME: constant(uint256) = 1874721889  # Same()
E_CONSISTENT: constant(uint256) = 711529000  # Consistent()
E_WINDOW: constant(uint256) = 2258206669  # Window()
E_NOTHING_DUE: constant(uint256) = 2264773020  # NothingDue()
E_FUNDS: constant(uint256) = 2189108570  # Funds()
E_MEMBERS: constant(uint256) = 1806715782  # Members()
E_SIGNERS: constant(uint256) = 4031530840  # Signers()
E_SIGNATURE: constant(uint256) = 4181866583  # Signature()
E_QUORUM: constant(uint256) = 3260132002  # Quorum()
E_PROOF: constant(uint256) = 3732714279  # Proof()
E_CLOSED: constant(uint256) = 484304507  # Closed()

U36: constant(uint256) = 2**36 - 1
U40: constant(uint256) = 2**40 - 1
U19: constant(uint256) = 2**19 - 1
EPOCH: constant(uint256) = (2**40 - 1) * 2**36  # of a slot's notes
U96: constant(uint256) = 2**96 - 1
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


LEDGER: immutable(bytes32)
WINDOW: immutable(uint256)
BOND: immutable(uint256)
UNIT: immutable(uint256)

head: public(uint256)  # least epoch of the next root (40 bits) | era (19) | bonds held
sets: public(HashMap[uint256, bytes32])  # era -> hash of its signers
roots: bytes32[SLOTS]  # 0: never posted, or refuted
metas: uint256[SLOTS]  # posted at (36 bits) | epoch (40) | era (19) | bond is held (1) | poster (160)
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


@view
@external
def terms() -> (bytes32, uint256, uint256, uint256):
    """
    @notice The ledger's chain id, the window in seconds, the bond and the worth of a unit in wei.
    """
    return LEDGER, WINDOW, BOND, UNIT


@view
@external
def posted(slot: uint256) -> (bytes32, uint256):
    """
    @notice The root of a slot, and what is noted about it.
    """
    return self.roots[slot], self.metas[slot]


@external
@payable
def __default__():
    """
    @notice Fund the payouts.
    """
    pass


@external
@payable
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
    bonds: uint256 = unsafe_add(head >> 59, 1)
    self._need(epoch >= head & U40 and epoch < U40, E_EPOCH)
    assert root != empty(bytes32)
    present: bytes32 = self.sets[era]
    after: bytes32 = present
    if len(heirs) != 0:
        after = sha256(heirs)
    self._check_quorum(epoch, root, after, present, members, votes)
    old: uint256 = self.metas[slot]
    if self.roots[slot] != empty(bytes32):
        has_newer: bool = False  # the newest root that can be claimed from is never overwritten
        for i: uint256 in range(SLOTS):
            other: uint256 = self.metas[i]
            is_newer: bool = other & EPOCH > old & EPOCH and self._is_final(other)
            if is_newer and self.roots[i] != empty(bytes32):
                has_newer = True
                break
        self._need(has_newer and self._is_final(old), E_FULL)
    self.roots[slot] = root
    self.metas[slot] = (
        block.timestamp | (epoch << 36) | (era << 76) | HELD | (convert(msg.sender, uint256) << 96)
    )
    if old & HELD != 0:
        bonds = unsafe_sub(bonds, 1)
    if after != present:
        era = unsafe_add(era, 1)
        assert era <= U19
        self.sets[era] = after
        log Rotated(era=era, members=heirs)
    self.head = unsafe_add(epoch, 1) | (era << 40) | (bonds << 59)
    log Posted(epoch=epoch, slot=slot, root=root)
    if old & HELD != 0:
        self._give_back(old)


@external
def release(slot: uint256):
    """
    @notice Give the bond of a root back to its poster, once nobody can prove it wrong any more.
    """
    meta: uint256 = self.metas[slot]
    self._need(meta & HELD != 0 and self._is_final(meta), E_NO_BOND)
    self.metas[slot] = meta ^ HELD
    self.head = unsafe_sub(self.head, 1 << 59)
    self._give_back(meta)


@external
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
    present: bytes32 = self.sets[(meta >> 76) & U19]
    self._check_quorum((meta >> 36) & U40, root, after, present, members, votes)
    self._refute(slot)
    self._reward(1)


@external
def challenge_leaves(a: Leaf, b: Leaf):
    """
    @notice Refute the root of `b` by two leaves that no log has: leaves are only added, and totals only grow.
    @dev Where the root of `a` is an earlier one that can be proved wrong as well, both go: one of them is wrong.
    """
    self._check_leaf(a, self.roots[a.slot])
    self._check_leaf(b, self.roots[b.slot])
    first: uint256 = (self.metas[a.slot] >> 36) & U40
    second: uint256 = (self.metas[b.slot] >> 36) & U40
    is_same: bool = a.account == b.account
    is_wrong: bool = a.index < b.index and is_same and a.total >= b.total and first <= second
    if first < second and a.index == b.index:
        is_wrong = not is_same or a.total != b.total
    if first < second and b.count < a.count:
        is_wrong = True
    self._need(is_wrong, E_CONSISTENT)
    bonds: uint256 = 1
    self._refute(b.slot)
    if first < second and not self._is_final(self.metas[a.slot]):
        self._refute(a.slot)
        bonds = 2
    self._reward(bonds)


@external
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
    send(leaf.account, paid, gas=msg.gas)


@pure
@internal
def _need(holds: bool, error: uint256):
    if not holds:
        raw_revert(slice(convert(error << 224, bytes32), 0, 4))


@view
@internal
def _is_final(meta: uint256) -> bool:
    return unsafe_add(meta & U36, WINDOW) <= block.timestamp


@pure
@internal
def _check_members(members: Bytes[LIST]):
    assert len(members) != 0 and len(members) & 31 == 0
    last: uint256 = 0
    for i: uint256 in range(MEMBERS):
        if unsafe_mul(i, 32) == len(members):
            break
        member: uint256 = extract32(members, unsafe_mul(i, 32), output_type=uint256)
        self._need(member >> 96 > last and member & U96 != 0, E_MEMBERS)
        last = member >> 96


@view
@internal
def _check_quorum(
    epoch: uint256,
    root: bytes32,
    after: bytes32,
    present: bytes32,
    members: Bytes[LIST],
    votes: Bytes[VOTES],
):
    self._need(sha256(members) == present, E_SIGNERS)
    digest: bytes32 = sha256(abi_encode(PURPOSE, chain.id, self, LEDGER, epoch, root, after))
    assert len(votes) == unsafe_mul(len(members), 2)
    total: uint256 = 0
    power: uint256 = 0
    for i: uint256 in range(MEMBERS):
        if unsafe_mul(i, 32) == len(members):
            break
        member: uint256 = extract32(members, unsafe_mul(i, 32), output_type=uint256)
        weight: uint256 = member & U96
        total = unsafe_add(total, weight)
        r: uint256 = extract32(votes, unsafe_mul(i, 64), output_type=uint256)
        if r != 0:
            s: uint256 = extract32(votes, unsafe_add(unsafe_mul(i, 64), 32), output_type=uint256)
            signer: address = ecrecover(digest, unsafe_add(27, s >> 255), r, s & (2**255 - 1))
            self._need(convert(signer, uint256) == member >> 96, E_SIGNATURE)
            power = unsafe_add(power, weight)
    self._need(unsafe_mul(power, 3) > unsafe_mul(total, 2), E_QUORUM)


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
        and unsafe_sub(leaf.count, 1) >> len(leaf.proof) == 0
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
    self.head = unsafe_sub(self.head, bonds << 59)
    send(msg.sender, unsafe_mul(bonds, BOND), gas=msg.gas)


@internal
def _give_back(meta: uint256):
    """
    @dev A poster that takes no money loses its bond to the payouts, and holds up nobody.
    """
    to: address = convert(meta >> 96, address)
    ok: bool = raw_call(to, b"", value=BOND, gas=30000, revert_on_failure=False)
