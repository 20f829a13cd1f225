"""An entry is proved to who has the genesis alone, in a few hundred bytes; a false byte anywhere is refused."""

from collections.abc import Callable

import pytest

from swarm.errors import BadEncoding, PeerFault
from swarm.ledger.blocks import (
    FINALIZE,
    VALIDATORS_MAX,
    VOTE_PURPOSES,
    Validator,
    validators_of,
    vote_parts,
)
from swarm.ledger.light import (
    Handoff,
    Inclusion,
    KnownEpoch,
    LightProof,
    Votes,
    advance,
    follow_handoffs,
    handoff_digest,
    handoff_of,
    needed,
    parse_light_proof,
    prove_entries,
    stay_of,
    trusted_epoch,
    verify_entries,
)
from swarm.ledger.state.records import Account, Checkpoint
from swarm.ledger.state.state import account_key
from swarm.ledger.transactions import Transfer, Validate
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import Amount, Height, PeerId, RoundIndex

EPOCH = 10
KEY = account_key(numbered_key(3).peer)


def handoffs_of(ledger: InMemoryLedger) -> list[Handoff]:
    """The ends of all epochs that are over; the validators of each are those of the genesis here."""
    found = list[Handoff]()
    for block, certificate in ledger.links:
        if block.header.height % EPOCH == EPOCH - 1:
            found.append(handoff_of(block.header, certificate, ledger.state.council.previous))
    return found


def a_proof(num_blocks: int = 25, num_validators: int = 4) -> tuple[InMemoryLedger, LightProof]:
    ledger = InMemoryLedger(
        max(num_validators, 6), num_validators, epoch_blocks=EPOCH, unbonding_epochs=20
    )
    ledger.empty_blocks(num_blocks)
    block, certificate = ledger.links[-1]
    proof = prove_entries(ledger.state, block.header, certificate, handoffs_of(ledger), [KEY])
    return ledger, proof


@pytest.mark.rule("L27a")
def test_an_account_is_proved_from_the_genesis_over_two_epochs() -> None:
    ledger, proof = a_proof()
    again = parse_light_proof(encode(proof))
    (found,) = verify_entries(ledger.genesis, again, [(KEY, Account)])
    assert found == ledger.state.account(numbered_key(3).peer)
    assert len(proof.handoffs) == 2


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def first(proof: LightProof, **changes: object) -> LightProof:
    """The proof with its first handoff changed."""
    return replace(proof, handoffs=(replace(proof.handoffs[0], **changes), *proof.handoffs[1:]))


FALSE: dict[str, Callable[[LightProof], LightProof]] = {
    "value": lambda p: replace(
        p, entries=(Inclusion(flipped(p.entries[0].value), p.entries[0].siblings),)
    ),
    "path": lambda p: replace(
        p, entries=(replace(p.entries[0], siblings=flipped(p.entries[0].siblings)),)
    ),
    "cut path": lambda p: replace(
        p, entries=(replace(p.entries[0], siblings=p.entries[0].siblings[:-1]),)
    ),
    "long path": lambda p: replace(p, entries=(replace(p.entries[0], siblings=bytes(32 * 300)),)),
    "root": lambda p: replace(p, outline=replace(p.outline, state_root=digest("other"))),
    "rest": lambda p: replace(p, outline=replace(p.outline, tail=digest("other"))),
    "height": lambda p: replace(p, outline=replace(p.outline, height=Height(p.outline.height + 1))),
    "epoch": lambda p: replace(p, outline=replace(p.outline, height=Height(EPOCH))),
    "no quorum": lambda p: replace(
        p, votes=Votes(p.votes.view, 0b11, p.votes.signatures[: 2 * 64])
    ),
    "vote": lambda p: replace(p, votes=replace(p.votes, signatures=flipped(p.votes.signatures))),
    "cut vote": lambda p: replace(p, votes=replace(p.votes, signatures=p.votes.signatures[:-1])),
    "early view": lambda p: replace(p, votes=replace(p.votes, view=0)),
    "no entry": lambda p: replace(p, entries=()),
    "missing epoch": lambda p: replace(p, handoffs=p.handoffs[1:]),
    "an epoch twice": lambda p: replace(p, handoffs=(p.handoffs[0], *p.handoffs)),
    "other heirs": lambda p: first(p, validators=p.handoffs[0].validators[:3]),
    "no heirs": lambda p: first(p, validators=()),
    "many heirs": lambda p: first(p, validators=p.handoffs[0].validators * VALIDATORS_MAX),
    "handoff vote": lambda p: first(
        p, votes=replace(p.handoffs[0].votes, signatures=flipped(p.handoffs[0].votes.signatures))
    ),
    "not the end": lambda p: replace(p, handoffs=(p.handoffs[1], p.handoffs[0])),
    "handoff of another epoch": lambda p: first(p, height=Height(2 * EPOCH - 1)),
    "from within the epoch": lambda p: first(p, height=Height(EPOCH + 5)),
    "from within, without heirs": lambda p: first(p, height=Height(EPOCH + 5), validators=()),
    "handoff root": lambda p: first(p, state_root=digest("other")),
    "handoff rest": lambda p: first(p, rest=digest("other")),
    "handoff of an earlier view": lambda p: first(
        p, votes=replace(p.handoffs[0].votes, view=p.handoffs[0].view - 1)
    ),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_false_byte_anywhere_is_refused(name: str) -> None:
    ledger, proof = a_proof()
    with pytest.raises(PeerFault):
        verify_entries(ledger.genesis, FALSE[name](proof), [(KEY, Account)])


def test_a_proof_is_worth_nothing_for_another_key_or_network() -> None:
    ledger, proof = a_proof()
    other = account_key(PeerId(bytes(32)))
    with pytest.raises(PeerFault):
        verify_entries(ledger.genesis, proof, [(other, Account)])
    elsewhere = InMemoryLedger(7, 4, epoch_blocks=EPOCH).genesis
    with pytest.raises(PeerFault):
        verify_entries(elsewhere, proof, [(KEY, Account)])
    with pytest.raises(BadEncoding):
        parse_light_proof(encode(proof)[:-1])


@pytest.mark.rule("L27a")
def test_handoffs_follow_the_validators_as_they_change() -> None:
    """Key 4 offers in epoch 0, and votes from epoch 2 on."""
    ledger = InMemoryLedger(6, 4, epoch_blocks=EPOCH, unbonding_epochs=20)
    ledger.block(ledger.sign(ledger.keys[4], Validate(is_on=True)))
    found = list[Handoff]()
    while ledger.state.height < 3 * EPOCH:
        state = ledger.block()
        block, certificate = ledger.links[-1]
        if state.height % EPOCH == EPOCH - 1:
            found.append(handoff_of(block.header, certificate, state.validators))
    sets = [follow_handoffs(ledger.genesis, found[:count]).validators for count in range(4)]
    peers = [{validator.peer for validator in voters} for voters in sets]
    newcomer = ledger.keys[4].peer
    assert [newcomer in voters for voters in peers] == [False, False, True, True]


@pytest.mark.rule("L27a")
def test_with_sixteen_validators_a_proof_of_any_of_2048_entries_is_below_1600_bytes() -> None:
    """How long a path is, is chance: the longest one is measured, with the largest checkpoint as its entry."""
    ledger = InMemoryLedger(20, 16, epoch_blocks=1_000)
    names = [PeerId(digest("somebody", number.to_bytes(8, "big"))) for number in range(2_048)]
    giver = ledger.keys[0]
    for start in range(0, len(names), 16):
        nonce = ledger.state.account(giver.peer).nonce + 1
        gifts = [
            ledger.sign(giver, Transfer(name, Amount(1)), nonce=nonce + i)
            for i, name in enumerate(names[start : start + 16])
        ]
        ledger.block(*gifts)
    block, certificate = ledger.links[-1]
    quorum = replace(certificate, bitmap=(1 << 11) - 1, signatures=certificate.signatures[:11])
    proofs = [
        prove_entries(ledger.state, block.header, quorum, [], [account_key(name)]) for name in names
    ]
    longest = max(proofs, key=lambda proof: len(proof.entries[0].siblings))
    key = account_key(names[proofs.index(longest)])
    assert verify_entries(ledger.genesis, longest, [(key, Account)])
    large = 2**32
    value = encode(
        Checkpoint(
            round=RoundIndex(large),
            phi_root=digest("root"),
            phi_bytes=2**40,
            peer=giver.peer,
            seat=large,
            height=Height(large),
            is_void=False,
        )
    )
    with_checkpoint = replace(longest, entries=(Inclusion(value, longest.entries[0].siblings),))
    assert len(encode(with_checkpoint)) <= 1_600


def test_a_handoff_of_sixteen_validators_is_below_1500_bytes() -> None:
    ledger, proof = a_proof(EPOCH, 16)
    votes = proof.handoffs[0].votes
    quorum = replace(votes, bitmap=(1 << 11) - 1, signatures=votes.signatures[: 11 * 64])
    handoff = replace(proof.handoffs[0], votes=quorum)
    assert len(follow_handoffs(ledger.genesis, [handoff]).validators) == 16
    assert len(encode(handoff)) <= 1_500


def a_long_chain(epochs: int = 8) -> tuple[InMemoryLedger, list[Handoff]]:
    """A fifth validator from epoch 2 on; for each epoch its end, and a header from within."""
    ledger = InMemoryLedger(6, 4, epoch_blocks=EPOCH, unbonding_epochs=20)
    ledger.block(ledger.sign(ledger.keys[4], Validate(is_on=True)))
    found = list[Handoff]()
    while ledger.state.height < epochs * EPOCH:
        state = ledger.block()
        block, certificate = ledger.links[-1]
        if state.height % EPOCH == EPOCH - 1:
            found.append(handoff_of(block.header, certificate, state.validators))
        elif state.height % EPOCH == 3:
            found.append(stay_of(block.header, certificate))
    return ledger, found


def at(found: list[Handoff], *heights: int) -> list[Handoff]:
    return [handoff for handoff in found if handoff.height in heights]


@pytest.mark.rule("L27a")
def test_a_header_from_within_leads_over_epochs_of_the_same_validators() -> None:
    ledger, found = a_long_chain()
    later = follow_handoffs(ledger.genesis, at(found, 9, 19, 73))
    assert (later.epoch, later.validators) == (7, ledger.state.council.previous)
    whole = follow_handoffs(ledger.genesis, at(found, *range(9, 70, 10)))
    assert whole == later
    for heights in ((19, 73), (73,), (9, 73), (13, 73), (9, 29), (9, 19, 73, 43), (9, 19, 23)):
        with pytest.raises(PeerFault):
            follow_handoffs(ledger.genesis, at(found, *heights[:-1]) + at(found, heights[-1]))


@pytest.mark.rule("L27a")
def test_validators_that_were_replaced_cannot_say_that_they_stay() -> None:
    """Who knows their heirs refuses them; with who does not it takes more than two thirds, as for a handoff."""
    ledger, found = a_long_chain()
    founders, real = validators_of(ledger.genesis), at(found, 53)[0]
    parts = vote_parts(ledger.genesis.chain, 5, real.votes.view, handoff_digest(real, founders))
    votes = [ledger.key_of(v.peer).sign(VOTE_PURPOSES[FINALIZE], *parts) for v in founders]

    def forged(count: int) -> Handoff:
        signed = Votes(real.votes.view, (1 << count) - 1, b"".join(votes[:count]))
        return replace(real, votes=signed)

    with pytest.raises(PeerFault):
        follow_handoffs(ledger.genesis, [*at(found, 9, 19), forged(4)])
    with pytest.raises(PeerFault):
        follow_handoffs(ledger.genesis, [forged(2)])
    assert follow_handoffs(ledger.genesis, [forged(3)]).epoch == 5
    trusted = trusted_epoch(2, ledger.state.validators)
    with pytest.raises(PeerFault):
        follow_handoffs(ledger.genesis, [*at(found, 9, 19), forged(3)], trusted)


@pytest.mark.rule("L27a")
def test_votes_of_another_network_or_epoch_lead_nowhere() -> None:
    ledger, found = a_long_chain()
    stay, end = at(found, 53)[0], at(found, 59)[0]
    path = at(found, 9, 19)
    for wrong in (
        replace(stay, height=Height(63)),
        replace(stay, height=Height(3)),
        replace(stay, validators=ledger.state.validators),
        replace(end, validators=()),
        replace(end, height=Height(69)),
        replace(end, height=Height(-1)),
    ):
        with pytest.raises(PeerFault):
            follow_handoffs(ledger.genesis, [*path, wrong])
    other = replace(ledger.genesis, name="other")
    with pytest.raises(PeerFault):
        follow_handoffs(other, path)


@pytest.mark.rule("L27a")
def test_only_the_handoffs_that_are_needed_are_sent() -> None:
    ledger, found = a_long_chain()
    for known, upto in ((0, 7), (0, 1), (0, 2), (1, 2), (2, 7), (3, 4), (2, 8), (7, 8)):
        path = needed(found, EPOCH, known, upto)
        assert len(path) <= 4
        start = KnownEpoch(known, validators_at(ledger, known))
        for handoff in path:
            start = advance(ledger.genesis, start, handoff)
        assert (start.epoch, start.validators) == (upto, validators_at(ledger, upto))
    assert [handoff.height for handoff in needed(found, EPOCH, 0, 7)] == [9, 19, 73]
    assert needed(found, EPOCH, 7, 7) == needed([], EPOCH, 0, 3) == []


def validators_at(ledger: InMemoryLedger, epoch: int) -> tuple[Validator, ...]:
    return ledger.state.validators if epoch >= 2 else validators_of(ledger.genesis)


@pytest.mark.rule("L64")
def test_who_trusts_an_epoch_begins_there() -> None:
    ledger, found = a_long_chain()
    ledger.block()
    block, certificate = ledger.links[-1]
    path = needed(found, EPOCH, 0, 8)
    proof = prove_entries(ledger.state, block.header, certificate, path, [KEY])
    for epoch in (0, 1, 2, 5, 8):
        trusted = trusted_epoch(epoch, validators_at(ledger, epoch))
        assert verify_entries(ledger.genesis, proof, [(KEY, Account)], trusted)
    without_genesis = replace(proof, handoffs=path[1:])
    with pytest.raises(PeerFault):
        verify_entries(ledger.genesis, without_genesis, [(KEY, Account)])
    trusted = trusted_epoch(4, ledger.state.validators)
    assert verify_entries(ledger.genesis, without_genesis, [(KEY, Account)], trusted)


@pytest.mark.rule("L64")
def test_another_set_or_a_later_epoch_than_that_of_the_proof_is_refused() -> None:
    ledger, found = a_long_chain()
    block, certificate = ledger.links[-1]
    path = needed(found, EPOCH, 0, 8)
    proof = prove_entries(ledger.state, block.header, certificate, path, [KEY])
    stranger = trusted_epoch(3, ledger.state.validators[1:])
    with pytest.raises(PeerFault, match="without the validators of the epoch that you trust"):
        verify_entries(ledger.genesis, proof, [(KEY, Account)], stranger)
    later = trusted_epoch(9, ledger.state.validators)
    with pytest.raises(PeerFault, match="final in epoch 8, before epoch 9 that you trust"):
        verify_entries(ledger.genesis, proof, [(KEY, Account)], later)
    replaced = trusted_epoch(5, validators_of(ledger.genesis))
    with pytest.raises(PeerFault):
        verify_entries(ledger.genesis, proof, [(KEY, Account)], replaced)
