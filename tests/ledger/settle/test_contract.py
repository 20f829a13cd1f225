"""The contract pays what validators signed, once; who forges, replays, claims twice or steals gets nothing."""

from collections.abc import Sequence

import pytest

from swarm.errors import UsageError, VerificationFailed
from swarm.ledger.payouts import members_digest, statement_digest
from swarm.ledger.settle.contract import (
    LEAF,
    Contract,
    Key,
    Terms,
    Wallet,
    deploy,
    encode_call,
    error_text,
    leaf_fields,
    parse_key,
    recover,
    runtime_code,
)
from swarm.ledger.settle.engine import Engine, EngineRefused, hex_number
from swarm.ledger.settle.plan import Claim, NothingToDo, pack_members, pack_votes
from swarm.ledger.state.payouts import SettlementMember
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST, Amount, Digest
from tests.ledger.settle.settling import (
    BOND_WEI,
    GAS_PRICE_MAX,
    OTHER,
    OWN,
    UNIT_WEI,
    WINDOW_S,
    Bridge,
    Leaf,
    an_engine,
    leaf_claim,
    root_of,
    settling_key,
)

LEAVES: list[Leaf] = [(OWN, 100), (OTHER, 50), (OWN, 125)]


def challenge_leaves(bridge: Bridge, first: Claim, second: Claim, number: int = 3) -> None:
    """Have account ``number`` show two leaves."""
    call = encode_call(f"challenge_leaves({LEAF},{LEAF})", leaf_fields(first), leaf_fields(second))
    challenger(bridge, number).send(bridge.target.contract, call)


def challenge_signatures(
    bridge: Bridge,
    slot: int,
    root: Digest,
    votes: bytes,
    members: Sequence[SettlementMember] = (),
) -> None:
    """Have account 3 show a second quorum for another root of the epoch in a slot."""
    signers = members or bridge.members
    call = encode_call(
        "challenge_signatures(uint256,bytes32,bytes32,bytes,bytes)",
        *(slot, bytes(root), bytes(members_digest(signers)), pack_members(signers), votes),
    )
    challenger(bridge, 3).send(bridge.target.contract, call)


def challenger(bridge: Bridge, number: int) -> Wallet:
    return Wallet(bridge.engine, Key(bridge.engine.secret(number)), GAS_PRICE_MAX)


def pass_window(bridge: Bridge) -> None:
    bridge.engine.pass_time(WINDOW_S + 1)


def test_what_is_withdrawn_is_paid_out_once_its_window_has_passed(bridge: Bridge) -> None:
    before = bridge.wei(OWN), bridge.wei(OTHER)
    bridge.settle((5, 100, OWN), (6, 50, OTHER), (7, 25, OWN))
    with pytest.raises(NothingToDo, match="can be proved wrong for"):
        bridge.claim()
    pass_window(bridge)
    bridge.claim()
    assert bridge.wei(OWN) - before[0] == 125 * UNIT_WEI, "both withdrawals in one claim"
    bridge.claim(OTHER)
    assert bridge.wei(OTHER) - before[1] == 50 * UNIT_WEI
    with pytest.raises(NothingToDo, match="are claimed"):
        bridge.claim()


def test_a_later_root_serves_an_older_withdrawal_and_pays_the_difference(bridge: Bridge) -> None:
    bridge.settle((5, 100, OWN))
    pass_window(bridge)
    bridge.claim()
    bridge.settle((5, 60, OTHER))
    bridge.settle((5, 40, OWN))
    pass_window(bridge)
    before = bridge.wei(OWN)
    bridge.claim()
    assert bridge.wei(OWN) - before == 40 * UNIT_WEI
    bridge.claim(OTHER)


def test_signers_hand_over_and_only_the_new_ones_sign_after_that(bridge: Bridge) -> None:
    bridge.settle((5, 100, OWN))
    heirs = tuple(
        sorted(
            (SettlementMember(settling_key(n).address, Amount(7)) for n in (10, 11)),
            key=lambda m: m.address,
        )
    )
    posting = bridge.forged(LEAVES[:1], 5, [0, 1, 2], heirs=heirs)
    bridge.contract.post(bridge.wallet, posting, BOND_WEI)
    view = bridge.view
    assert (view.era, view.members) == (1, members_digest(heirs))
    assert bridge.contract.announced(1) == pack_members(heirs)
    with pytest.raises(EngineRefused, match="not the signers that the contract has"):
        bridge.post_forged(LEAVES, 6)
    half = bridge.forged(LEAVES, 6, [10], members=heirs)
    with pytest.raises(EngineRefused, match="two thirds"):
        bridge.contract.post(bridge.wallet, half, BOND_WEI)
    both = bridge.forged(LEAVES, 6, [10, 11], members=heirs)
    bridge.contract.post(bridge.wallet, both, BOND_WEI)


@pytest.mark.parametrize("fault", ["order", "twice", "no power", "no address"])
def test_a_contract_does_not_begin_with_signers_that_could_not_sign(fault: str) -> None:
    good = [SettlementMember(bytes([n]) * 20, Amount(1)) for n in (1, 2)]
    lists = {
        "order": good[::-1],
        "twice": [good[0], replace(good[0], power=Amount(2))],
        "no power": [good[0], replace(good[1], power=Amount(0))],
        "no address": [SettlementMember(bytes(20), Amount(1)), good[1]],
    }
    engine = an_engine()
    wallet = Wallet(engine, Key(engine.secret(0)), GAS_PRICE_MAX)
    with pytest.raises(EngineRefused):
        deploy(wallet, Digest(bytes(32)), lists[fault], Terms(9, 9, 9))


def test_heirs_that_are_not_those_of_the_signed_statement_are_refused(bridge: Bridge) -> None:
    """A list that is signed is as good as its quorum; the ledger makes it, in order."""
    heirs = [SettlementMember(bytes([n]) * 20, Amount(1)) for n in (1, 2)]
    posting = bridge.forged(LEAVES, 5, [0, 1, 2, 3], heirs=heirs)
    for packed in (pack_members(heirs)[:-1], pack_members(heirs[:1]), pack_members(heirs[::-1])):
        call = encode_call(
            "post(uint256,uint256,bytes32,bytes,bytes,bytes)",
            *(0, 5, bytes(posting.statement.root)),
            *(pack_members(posting.members), packed, posting.votes),
        )
        with pytest.raises(EngineRefused):
            bridge.wallet.send(bridge.target.contract, call, BOND_WEI)
    assert bridge.view.era == 0


# --- attacks ---


@pytest.mark.rule("S38")
def test_a_forged_signature_posts_nothing(bridge: Bridge) -> None:
    with pytest.raises(EngineRefused, match="two thirds"):
        bridge.post_forged(LEAVES, 5, 0, 1)
    posting = bridge.forged(LEAVES, 5, [0, 1])
    digest = statement_digest(bridge.state.chain, bridge.target, posting.statement)
    stolen = {settling_key(n).address: settling_key(n).sign_digest(digest) for n in (0, 1)}
    stolen[settling_key(2).address] = settling_key(0).sign_digest(digest)
    forged = replace(posting, votes=pack_votes(posting.members, stolen))
    with pytest.raises(EngineRefused, match="signature does not hold"):
        bridge.contract.post(bridge.wallet, forged, BOND_WEI)
    junk = dict.fromkeys((settling_key(n).address for n in range(4)), b"\x01" * 64 + b"\0")
    junk_votes = replace(posting, votes=pack_votes(posting.members, junk))
    with pytest.raises(EngineRefused, match="signature does not hold"):
        bridge.contract.post(bridge.wallet, junk_votes, BOND_WEI)
    cut = replace(posting, votes=posting.votes[:-64])
    with pytest.raises(EngineRefused):
        bridge.contract.post(bridge.wallet, cut, BOND_WEI)


@pytest.mark.rule("S38")
def test_signatures_for_another_contract_or_ledger_post_nothing(bridge: Bridge) -> None:
    elsewhere = replace(bridge.target, contract=OTHER)
    for target in (elsewhere, replace(bridge.target, evm_chain=1)):
        posting = bridge.forged(LEAVES, 5, [0, 1, 2, 3], target=target)
        with pytest.raises(EngineRefused, match="signature does not hold"):
            bridge.contract.post(bridge.wallet, posting, BOND_WEI)


@pytest.mark.rule("S38")
def test_an_old_root_is_not_posted_again(bridge: Bridge) -> None:
    bridge.post_forged(LEAVES[:1], 5)
    bridge.post_forged(LEAVES, 6)
    for epoch, leaves in ((6, LEAVES), (5, LEAVES[:1]), (4, LEAVES[:1])):
        with pytest.raises(EngineRefused, match="of this epoch or a later one"):
            bridge.post_forged(leaves, epoch)


@pytest.mark.rule("S38")
def test_the_quorum_of_an_earlier_era_is_worth_nothing(bridge: Bridge) -> None:
    heirs = (SettlementMember(settling_key(10).address, Amount(1)),)
    posting = bridge.forged(LEAVES, 5, [0, 1, 2, 3], heirs=heirs)
    bridge.contract.post(bridge.wallet, posting, BOND_WEI)
    old = bridge.forged(LEAVES, 6, [0, 1, 2, 3])
    with pytest.raises(EngineRefused, match="not the signers that the contract has"):
        bridge.contract.post(bridge.wallet, old, BOND_WEI)
    posed = replace(old, members=heirs, votes=old.votes[:64])
    with pytest.raises(EngineRefused):
        bridge.contract.post(bridge.wallet, posed, BOND_WEI)


@pytest.mark.rule("S38")
def test_exactly_two_thirds_of_the_power_are_not_enough(bridge: Bridge) -> None:
    heirs = sorted((settling_key(n).address, n) for n in (10, 11, 12))
    members = [SettlementMember(address, Amount(5)) for address, _ in heirs]
    handover = bridge.forged(LEAVES[:1], 5, [0, 1, 2], heirs=members)
    bridge.contract.post(bridge.wallet, handover, BOND_WEI)
    two = bridge.forged(LEAVES, 6, [10, 11], members=members)
    with pytest.raises(EngineRefused, match="two thirds"):
        bridge.contract.post(bridge.wallet, two, BOND_WEI)


@pytest.mark.rule("S39")
def test_nothing_is_paid_before_a_root_has_stood_for_its_window(bridge: Bridge) -> None:
    slot = bridge.post_forged(LEAVES, 5)
    bridge.engine.pass_time(WINDOW_S // 2)
    with pytest.raises(EngineRefused, match="can still be proved wrong"):
        bridge.contract.claim(bridge.wallet, leaf_claim(slot, LEAVES, 0))


@pytest.mark.rule("S38")
def test_nobody_claims_twice_or_what_is_anothers(bridge: Bridge) -> None:
    slot = bridge.post_forged(LEAVES, 5)
    pass_window(bridge)
    good = leaf_claim(slot, LEAVES, 2)
    thieves = [
        replace(good, address=OTHER),
        replace(good, total=1_000),
        replace(good, index=1),
        replace(good, index=2 + 4),
        replace(good, count=2),
        replace(good, count=4),
        replace(good, proof=good.proof[:-1]),
        replace(good, proof=(*good.proof, bytes(32))),
        replace(good, proof=(bytes(32), bytes(32))),
        replace(good, slot=slot + 1),
        replace(good, index=1 << 255),
    ]
    for thief in thieves:
        with pytest.raises(EngineRefused):
            bridge.contract.claim(bridge.wallet, thief)
    with pytest.raises(EngineRefused):
        bridge.contract.claim(bridge.wallet, replace(good, slot=8))
    bridge.contract.claim(bridge.wallet, good)
    with pytest.raises(EngineRefused, match="all of it is claimed"):
        bridge.contract.claim(bridge.wallet, good)
    with pytest.raises(EngineRefused, match="all of it is claimed"):
        bridge.contract.claim(bridge.wallet, leaf_claim(slot, LEAVES, 0))
    assert bridge.contract.claimed(OWN) == 125


@pytest.mark.rule("S38")
def test_a_claim_takes_neither_bonds_nor_more_than_there_is(bridge: Bridge) -> None:
    rich = bridge.view.funds_wei // UNIT_WEI
    leaves: list[Leaf] = [(OWN, rich + 1), (OTHER, rich), (bytes([0xA3]) * 20, 1 << 255)]
    slot = bridge.post_forged(leaves, 5)
    pass_window(bridge)
    assert bridge.wei(bridge.target.contract) > (rich + 1) * UNIT_WEI, (
        "with the bond there would be"
    )
    for index in (0, 2):
        with pytest.raises(EngineRefused):
            bridge.contract.claim(bridge.wallet, leaf_claim(slot, leaves, index))
    bridge.contract.claim(bridge.wallet, leaf_claim(slot, leaves, 1))
    assert bridge.view.funds_wei == 0
    bridge.contract.release(bridge.wallet, slot)
    assert bridge.wei(bridge.target.contract) == 0


@pytest.mark.rule("S38")
def test_a_root_without_its_bond_is_not_posted_and_no_bond_is_paid_back_twice(
    bridge: Bridge,
) -> None:
    posting = bridge.forged(LEAVES, 5, [0, 1, 2, 3])
    for bond in (0, BOND_WEI - 1, BOND_WEI + 1):
        with pytest.raises(EngineRefused, match="bond is another amount"):
            bridge.contract.post(bridge.wallet, posting, bond)
    slot = bridge.post_forged(LEAVES, 5)
    thief = challenger(bridge, 3)
    with pytest.raises(EngineRefused, match="no bond"):
        bridge.contract.release(thief, slot)
    pass_window(bridge)
    poster, before = bridge.wallet.address, bridge.wei(bridge.wallet.address)
    bridge.contract.release(thief, slot)
    assert bridge.wei(poster) - before == BOND_WEI, "whoever asks, it goes to the poster"
    with pytest.raises(EngineRefused, match="no bond"):
        bridge.contract.release(thief, slot)
    assert bridge.view.num_bonds == 0


@pytest.mark.rule("S39")
def test_two_roots_of_one_epoch_by_a_quorum_are_no_root_and_the_bond_is_the_challengers(
    bridge: Bridge,
) -> None:
    slot = bridge.post_forged(LEAVES, 5)
    other = bridge.forged([(OWN, 1)], 5, [1, 2, 3])

    def challenge(root: Digest, votes: bytes) -> None:
        challenge_signatures(bridge, slot, root, votes)

    same = bridge.forged(LEAVES, 5, [1, 2, 3])
    with pytest.raises(EngineRefused, match="root that was posted"):
        challenge(same.statement.root, same.votes)
    few = bridge.forged([(OWN, 1)], 5, [1, 2])
    with pytest.raises(EngineRefused, match="two thirds"):
        challenge(few.statement.root, few.votes)
    another = bridge.forged([(OWN, 1)], 6, [1, 2, 3])
    with pytest.raises(EngineRefused, match="signature does not hold"):
        challenge(another.statement.root, another.votes)
    before = bridge.wei(challenger(bridge, 3).address)
    challenge(other.statement.root, other.votes)
    assert bridge.wei(challenger(bridge, 3).address) > before, "the bond is more than the gas"
    assert bridge.view.slots[slot].root == NO_DIGEST
    assert bridge.view.num_bonds == 0
    with pytest.raises(EngineRefused):
        challenge(other.statement.root, other.votes)
    pass_window(bridge)
    with pytest.raises(EngineRefused, match="not under the root"):
        bridge.contract.claim(bridge.wallet, leaf_claim(slot, LEAVES, 0))
    with pytest.raises(EngineRefused, match="no bond"):
        bridge.contract.release(bridge.wallet, slot)


@pytest.mark.rule("S39")
def test_a_root_is_refuted_by_those_who_signed_it_and_not_by_their_heirs(bridge: Bridge) -> None:
    slot = bridge.post_forged(LEAVES, 5)
    heirs = (SettlementMember(settling_key(10).address, Amount(1)),)
    handover = bridge.forged([*LEAVES, (OTHER, 60)], 6, [0, 1, 2], heirs=heirs)
    bridge.contract.post(bridge.wallet, handover, BOND_WEI)
    late = bridge.forged([(OWN, 1)], 5, [10], members=heirs)
    with pytest.raises(EngineRefused, match="not the signers that the contract has"):
        challenge_signatures(bridge, slot, late.statement.root, late.votes, heirs)
    other = bridge.forged([(OWN, 1)], 5, [1, 2, 3])
    challenge_signatures(bridge, slot, other.statement.root, other.votes)
    assert bridge.view.slots[slot].root == NO_DIGEST


WRONG: dict[str, tuple[list[Leaf], int, int]] = {
    "a leaf shrank": ([(OWN, 99), (OTHER, 50), (OWN, 125), (OTHER, 60)], 0, 0),
    "a leaf is another's": ([(OTHER, 100), (OTHER, 50), (OWN, 125)], 0, 0),
    "the log shrank": ([(OWN, 100)], 0, 0),
    "a total did not grow": ([*LEAVES, (OWN, 125)], 2, 3),
    "a total fell": ([*LEAVES, (OTHER, 49)], 1, 3),
}


@pytest.mark.rule("S39")
@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("is_final", [True, False])
def test_a_root_that_contradicts_an_earlier_one_is_refuted_by_its_own_leaves(
    bridge: Bridge, fault: str, is_final: bool
) -> None:
    first = bridge.post_forged(LEAVES, 5)
    if is_final:
        pass_window(bridge)
    leaves, a, b = WRONG[fault]
    second = bridge.post_forged(leaves, 6)
    before = bridge.wei(challenger(bridge, 3).address)
    challenge_leaves(bridge, leaf_claim(first, LEAVES, a), leaf_claim(second, leaves, b))
    gained = bridge.wei(challenger(bridge, 3).address) - before
    assert gained > (0 if is_final else BOND_WEI), "what can be wrong is gone, with its bond"
    roots = [slot.root for slot in bridge.view.slots[:2]]
    assert roots == [root_of(LEAVES) if is_final else NO_DIGEST, NO_DIGEST]
    assert bridge.view.num_bonds == is_final
    pass_window(bridge)
    with pytest.raises(EngineRefused):
        bridge.contract.claim(bridge.wallet, leaf_claim(second, leaves, 0))


@pytest.mark.rule("S39")
def test_a_root_that_contradicts_itself_is_refuted(bridge: Bridge) -> None:
    leaves = [*LEAVES, (OWN, 124)]
    slot = bridge.post_forged(leaves, 5)
    challenge_leaves(bridge, leaf_claim(slot, leaves, 2), leaf_claim(slot, leaves, 3))
    assert bridge.view.slots[slot].root == NO_DIGEST
    assert bridge.view.num_bonds == 0


@pytest.mark.rule("S39")
def test_an_honest_root_cannot_be_refuted_and_its_bond_not_stolen(bridge: Bridge) -> None:
    longer = [*LEAVES, (OTHER, 60)]
    first, second = bridge.post_forged(LEAVES, 5), bridge.post_forged(longer, 6)
    under = {first: LEAVES, second: longer}
    every = [
        leaf_claim(slot, leaves, i) for slot, leaves in under.items() for i in range(len(leaves))
    ]
    pairs = [(0, 0), (0, 3), (3, 0), (0, 2), (2, 5), (1, 6), (6, 1), (4, 6), (6, 4), (3, 6)]
    for a, b in pairs:
        with pytest.raises(EngineRefused, match="may have both"):
            challenge_leaves(bridge, every[a], every[b])
    invented = replace(leaf_claim(second, longer, 0), total=1)
    with pytest.raises(EngineRefused, match="not under the root"):
        challenge_leaves(bridge, every[0], invented)
    assert bridge.view.num_bonds == 2


@pytest.mark.rule("S39")
def test_what_is_final_is_refuted_no_more(bridge: Bridge) -> None:
    first = bridge.post_forged(LEAVES, 5)
    wrong, a, b = WRONG["a leaf shrank"]
    second = bridge.post_forged(wrong, 6)
    pass_window(bridge)
    with pytest.raises(EngineRefused, match="is final"):
        challenge_leaves(bridge, leaf_claim(first, LEAVES, a), leaf_claim(second, wrong, b))


@pytest.mark.rule("S40")
def test_eight_roots_at_once_do_not_push_out_the_one_that_can_be_claimed_from(
    bridge: Bridge,
) -> None:
    slot = bridge.post_forged(LEAVES, 5)
    pass_window(bridge)
    for epoch in range(6, 13):
        bridge.post_forged(LEAVES, epoch)
    for taken in range(8):
        posting = replace(bridge.forged(LEAVES, 13, [0, 1, 2, 3]), slot=taken)
        with pytest.raises(EngineRefused, match="eight roots wait"):
            bridge.contract.post(bridge.wallet, posting, BOND_WEI)
    bridge.contract.claim(bridge.wallet, leaf_claim(slot, LEAVES, 2))
    pass_window(bridge)
    before = bridge.wei(bridge.wallet.address)
    assert bridge.post_forged(LEAVES, 13) == slot, "the oldest makes room"
    assert bridge.wei(bridge.wallet.address) > before - BOND_WEI, "and its bond is back"
    assert bridge.view.num_bonds == 8


class Generous(Engine):
    """An engine whose estimate leaves gas for calls within calls: an estimate is enough for a failing one."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def ask(self, method: str, *params: object) -> object:
        return hex(1_000_000) if method == "eth_estimateGas" else self.engine.ask(method, *params)


def call_code(target: bytes, data: bytes, value: str, then: str) -> bytes:
    """Code that calls ``target`` with ``data``, then goes on; ``value`` and ``then`` are opcodes."""
    size = f"61{len(data):04x}"
    call = f"5f5f{size}5f{value}73{target.hex()}5af150{then}"
    at = 8 + len(call) // 2
    return bytes.fromhex(f"{size}61{at:04x}5f39{call}") + data


@pytest.mark.rule("S40")
def test_a_recipient_that_claims_again_while_it_is_paid_is_paid_once(bridge: Bridge) -> None:
    sender, target = bridge.wallet.address, bridge.target.contract
    nonce = hex_number(bridge.engine.ask("eth_getTransactionCount", "0x" + sender.hex(), "latest"))
    rlp = (
        b"\x94"
        + sender
        + (bytes([nonce + 1]) if nonce + 1 < 0x80 else b"\x81" + bytes([nonce + 1]))
    )
    keccak = pytest.importorskip("eth_utils").keccak
    attacker = keccak(bytes([0xC0 + len(rlp)]) + rlp)[12:]
    leaves: list[Leaf] = [(attacker, 100), (OTHER, 50)]
    slot = bridge.post_forged(leaves, 5)
    claim = leaf_claim(slot, leaves, 0)
    again = encode_call(f"claim({LEAF})", leaf_fields(claim))
    runtime = call_code(target, again, "5f", "00")
    made = bridge.wallet.send(b"", bytes.fromhex(f"61{len(runtime):04x}80600a5f395ff3") + runtime)
    assert made.contract == attacker
    pass_window(bridge)
    generous = Wallet(Generous(bridge.engine), Key(bridge.engine.secret(0)), GAS_PRICE_MAX)
    bridge.contract.claim(generous, claim)
    assert bridge.wei(attacker) == 100 * UNIT_WEI


@pytest.mark.rule("S40")
def test_a_poster_that_takes_no_money_loses_its_bond_and_holds_up_nobody(bridge: Bridge) -> None:
    posting, target = bridge.forged(LEAVES, 5, [0, 1, 2, 3]), bridge.target.contract
    post = encode_call(
        "post(uint256,uint256,bytes32,bytes,bytes,bytes)",
        *(posting.slot, 5, bytes(posting.statement.root)),
        *(pack_members(posting.members), b"", posting.votes),
    )
    refuses = "63" + "5f5ffd00" + "5f52" + "6004601cf3"  # returns the code that reverts
    generous = Wallet(Generous(bridge.engine), Key(bridge.engine.secret(0)), GAS_PRICE_MAX)
    generous.send(b"", call_code(target, post, "34", refuses), BOND_WEI)
    assert bridge.view.num_bonds == 1
    funds = bridge.view.funds_wei
    pass_window(bridge)
    bridge.contract.release(bridge.wallet, posting.slot)
    assert (bridge.view.num_bonds, bridge.view.funds_wei) == (0, funds + BOND_WEI)


# --- keys and engines ---


def test_a_signature_recovers_to_its_key_and_junk_to_nobody(bridge: Bridge) -> None:
    key = settling_key(0)
    digest = root_of(LEAVES)
    signature = key.sign_digest(digest)
    assert recover(digest, signature) == key.address
    assert recover(root_of(LEAVES[:1]), signature) != key.address
    assert recover(digest, b"\xff" * 64 + b"\0") is None
    assert recover(digest, bytes(65)) is None


@pytest.mark.parametrize("text", ["", "0x12", "g" * 64, "00" * 32, "ff" * 32])
def test_what_is_no_key_is_refused(engine: object, text: str) -> None:
    with pytest.raises(UsageError):
        parse_key(text)


def test_another_chain_and_another_contract_are_refused(bridge: Bridge) -> None:
    with pytest.raises(UsageError, match="is on chain 5"):
        Contract(bridge.engine, replace(bridge.target, evm_chain=5))
    with pytest.raises(VerificationFailed, match="not the settlement contract"):
        Contract(bridge.engine, replace(bridge.target, contract=OTHER))


def test_dear_gas_and_an_empty_purse_are_told_before_anything_is_sent(bridge: Bridge) -> None:
    cheap = Wallet(bridge.engine, Key(bridge.engine.secret(0)), 1)
    with pytest.raises(UsageError, match="gas costs"):
        cheap.send(OWN, b"", 1)
    poor = Wallet(bridge.engine, settling_key(77), GAS_PRICE_MAX)
    with pytest.raises(UsageError, match="has 0 wei"):
        poor.send(OWN, b"")


def test_an_error_that_is_not_the_contracts_has_no_text(engine: object) -> None:
    assert error_text(b"") == error_text(b"\x01\x02\x03\x04") == ""
    assert len(runtime_code()) < 24_576, "what a chain accepts (EIP-170)"
