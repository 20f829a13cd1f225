"""Prove entries of the ledger to somebody who has the genesis, or a trusted epoch, and nothing else.

Core: pure functions over frozen structs.

    genesis --validators of epoch 0--> handoff --of epoch 1--> ... --of epoch E--> finalization --> header
    header --state root--> path --> entry

A handoff is a final header that says who votes in a later epoch: the last one of an epoch names the validators
of the next, and one from within an epoch names those of its own. Where these are the ones that are known, no
epoch in between needs a handoff. So a proof grows with the changes of the validators, and not with the blocks,
the seats or the accounts. Of a header a proof has only what it needs (``blocks.Outline``); the votes cover the
network and the epoch.

Source: docs/spec/ledger.md section 2, after light clients of proof-of-stake chains.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarm.config.spec import Genesis
from swarm.errors import BadEncoding, BrokenPromise, PeerFault
from swarm.ledger.blocks import (
    FINALIZE,
    VALIDATORS_MAX,
    Certificate,
    Header,
    Outline,
    Validator,
    check_certificate,
    epoch_of,
    is_last_of_epoch,
    outline_digest,
    outline_of,
    rest_digest,
    tail_digest,
    validators_digest,
    validators_of,
)
from swarm.ledger.state.records import Entry
from swarm.ledger.state.state import State
from swarm.primitives.codec import Message, decode, encode, replace
from swarm.primitives.crypto import SIGNATURE_BYTES
from swarm.primitives.merkle import SparseProof, verify_included
from swarm.types import Digest, Height, View

LIGHT_PROOF_BYTES_MAX = 64 << 20
"""Bytes of a proof: 20,000 epochs of 16 validators."""

ENTRIES_MAX = 256
"""Entries of one proof: a run's head, and a checkpoint for each of its stages, four times over."""

HASH_BYTES = 32
PATH_HASHES_MAX = 256


class Votes(Message, frozen=True):
    """The votes of a finalization, without what the header beside them says."""

    view: View
    bitmap: int
    signatures: bytes
    """64 bytes of each voter, in the order of the set."""


class Handoff(Message, frozen=True):
    """A header, made final by the validators of its epoch, that leads to a later epoch."""

    height: Height
    """Height of the last block of an epoch, or of one within an epoch whose validators are still the same."""
    view: View
    """View in which the block was proposed first."""
    state_root: Digest
    rest: Digest
    """``blocks.rest_digest`` of the header."""
    votes: Votes
    validators: tuple[Validator, ...]
    """Those of the epoch after the last block of one; empty where they are still the same."""


@dataclass(frozen=True, slots=True)
class KnownEpoch:
    """An epoch whose validators a reader knows, and who they are."""

    epoch: int
    validators: tuple[Validator, ...]


@dataclass(frozen=True, slots=True)
class TrustedEpoch:
    """An epoch and the digest of its validators, from somebody whom the reader trusts."""

    epoch: int
    digest: Digest

    def __str__(self) -> str:
        return f"{self.epoch}:{self.digest.hex()}"


class Inclusion(Message, frozen=True):
    """An entry and its path to the state root; who asked knows its key."""

    value: bytes
    siblings: bytes
    """32 bytes of each sibling, from the root down."""


class LightProof(Message, frozen=True):
    """Proof of some entries, from the validators of the genesis, or of a later epoch, on."""

    handoffs: tuple[Handoff, ...]
    outline: Outline
    votes: Votes
    entries: tuple[Inclusion, ...]


def votes_of(certificate: Certificate) -> Votes:
    """Return the votes of a finalization in their short form."""
    assert certificate.kind == FINALIZE, "nothing else proves a block final"
    return Votes(certificate.view, certificate.bitmap, b"".join(certificate.signatures))


def handoff_of(
    header: Header, certificate: Certificate, validators: Sequence[Validator]
) -> Handoff:
    """Return the handoff of an epoch whose last block this is, to the validators that it names.

    With the header of another block it says that these are still the validators of its epoch.
    """
    assert validators_digest(validators) == header.next_validators, "not the validators it names"
    return replace(stay_of(header, certificate), validators=tuple(validators))


def stay_of(header: Header, certificate: Certificate) -> Handoff:
    """Return the proof that the validators of this header's epoch are those that its reader knows."""
    return Handoff(
        height=header.height,
        view=header.view,
        state_root=header.state_root,
        rest=rest_digest(header),
        votes=votes_of(certificate),
        validators=(),
    )


def handoff_digest(handoff: Handoff, validators: Sequence[Validator]) -> Digest:
    """Return the digest of the block of a handoff that names these validators."""
    return outline_digest(_outline(handoff, validators))


def _outline(handoff: Handoff, validators: Sequence[Validator]) -> Outline:
    tail = tail_digest(validators_digest(validators), handoff.rest)
    return Outline(handoff.height, handoff.view, handoff.state_root, tail)


def prove_entries(
    state: State,
    header: Header,
    certificate: Certificate,
    handoffs: Sequence[Handoff],
    keys: Sequence[bytes],
) -> LightProof:
    """Return a proof of entries of ``state``, which is the one after the final block of ``header``.

    ``handoffs`` are those of all earlier epochs, from epoch 0 on. Every key must have an entry.
    """
    entries = list[Inclusion]()
    for key in keys:
        found = state.get(key)
        assert found is not None, "only what is there is proved"
        siblings = state.entries.prove(key).siblings
        entries.append(Inclusion(encode(found), b"".join(siblings)))
    return LightProof(tuple(handoffs), outline_of(header), votes_of(certificate), tuple(entries))


def parse_light_proof(data: bytes) -> LightProof:
    """Decode a proof and check its sizes; raise ``BadEncoding``."""
    proof = decode(LightProof, data, limit=LIGHT_PROOF_BYTES_MAX)
    if len(proof.entries) > ENTRIES_MAX:
        raise BadEncoding(f"a proof of more than {ENTRIES_MAX} entries")
    return proof


def verify_entries(
    genesis: Genesis,
    proof: LightProof,
    expected: Sequence[tuple[bytes, type[Entry]]],
    trusted: TrustedEpoch | None = None,
) -> list[Entry]:
    """Return the proved entries, which have these keys and types.

    Raises ``PeerFault`` unless the validators of the genesis (or of the trusted epoch), and those they handed
    over to, made the header final, and every entry is under its state root.
    """
    known = follow_handoffs(genesis, proof.handoffs, trusted)
    epoch = epoch_of(genesis.epoch_blocks, proof.outline.height)
    if trusted is not None and epoch < trusted.epoch:
        raise BrokenPromise(
            f"it became final in epoch {epoch}, before epoch {trusted.epoch} that you trust"
        )
    if epoch != known.epoch:
        raise BrokenPromise("a header of another epoch than its handoffs lead to")
    _check_final(genesis, proof.outline, proof.votes, known.validators)
    if len(proof.entries) != len(expected):
        raise BrokenPromise("not the entries that were asked for")
    found = list[Entry]()
    for inclusion, (key, kind) in zip(proof.entries, expected, strict=True):
        path = SparseProof(_hashes(inclusion.siblings), b"", b"")
        verify_included(proof.outline.state_root, key, inclusion.value, path)
        found.append(decode(kind, inclusion.value, limit=len(inclusion.value)))
    return found


def first_epoch(genesis: Genesis) -> KnownEpoch:
    """Return epoch 0 with the validators of the genesis."""
    return KnownEpoch(0, validators_of(genesis))


def follow_handoffs(
    genesis: Genesis, handoffs: Sequence[Handoff], trusted: TrustedEpoch | None = None
) -> KnownEpoch:
    """Return the epoch to which handoffs lead from the genesis, or from an epoch that the reader trusts.

    Raises ``PeerFault`` if one does not hold, or if they do not have the validators of the trusted epoch.
    """
    known, ahead = first_epoch(genesis), handoffs
    if trusted is not None:
        sets = [known.validators, *(one.validators for one in handoffs if one.validators)]
        voters = next((v for v in sets if validators_digest(v) == trusted.digest), None)
        if voters is None:
            raise BrokenPromise("handoffs without the validators of the epoch that you trust")
        known = KnownEpoch(trusted.epoch, voters)
        ahead = [h for h in handoffs if leads_to(genesis.epoch_blocks, h.height) > trusted.epoch]
    for handoff in ahead:
        known = advance(genesis, known, handoff)
    return known


def advance(genesis: Genesis, known: KnownEpoch, handoff: Handoff) -> KnownEpoch:
    """Return the later epoch to which a handoff leads from a known one; raise ``PeerFault`` if it does not.

    A header from within an epoch is proof that the validators are the same there: more than two thirds of their
    power signed it, the honest ones among them as validators of its epoch, and it names them.
    """
    epoch = epoch_of(genesis.epoch_blocks, handoff.height)
    if is_last_of_epoch(genesis.epoch_blocks, handoff.height):
        if epoch != known.epoch:
            raise BrokenPromise(f"a handoff that is not the end of epoch {known.epoch}")
        if not 1 <= len(handoff.validators) <= VALIDATORS_MAX:
            raise BadEncoding("a handoff to nobody, or to too many")
        after = KnownEpoch(epoch + 1, handoff.validators)
    else:
        if epoch <= known.epoch or handoff.validators:
            raise BrokenPromise(f"a handoff that does not lead on from epoch {known.epoch}")
        after = KnownEpoch(epoch, known.validators)
    try:
        outline = _outline(handoff, after.validators)
        _check_final(genesis, outline, handoff.votes, known.validators)
    except PeerFault as error:
        said = f"not final in epoch {epoch}, or not the validators it names: {error}"
        raise BrokenPromise(said) from None
    return after


def trusted_epoch(epoch: int, validators: Sequence[Validator]) -> TrustedEpoch:
    """Return what others can begin with if they trust who says it."""
    return TrustedEpoch(epoch, validators_digest(validators))


def needed(handoffs: Iterable[Handoff], epoch_blocks: int, known: int, upto: int) -> list[Handoff]:
    """Return those of ``handoffs``, sorted by height, that lead from epoch ``known`` to epoch ``upto``."""
    path, after, epoch = list[Handoff](), list[tuple[Validator, ...]](), known
    for handoff in handoffs:
        reached, length = leads_to(epoch_blocks, handoff.height), len(path)
        if not max(epoch, known + 1) <= reached <= upto:
            continue
        while path and not handoff.validators:  # one that stays leads over those of the same set
            if path[-1].validators and (len(path) < 2 or after[-2] != after[-1]):
                break
            path.pop()
            after.pop()
        if reached > epoch or len(path) < length:
            path.append(handoff)
            after.append(handoff.validators or (after[-1] if after else ()))
            epoch = reached
    return path


def leads_to(epoch_blocks: int, height: int) -> int:
    """Return the epoch to which a handoff of a height leads."""
    return epoch_of(epoch_blocks, height) + is_last_of_epoch(epoch_blocks, height)


def _check_final(
    genesis: Genesis, outline: Outline, votes: Votes, voters: Sequence[Validator]
) -> None:
    """Raise unless these voters made the block final: their votes name the network and the epoch."""
    if votes.view < outline.view:
        raise BrokenPromise("votes from before the block was proposed")
    if len(votes.signatures) % SIGNATURE_BYTES:
        raise BadEncoding("a signature that is cut")
    starts = range(0, len(votes.signatures), SIGNATURE_BYTES)
    certificate = Certificate(
        kind=FINALIZE,
        view=votes.view,
        block=outline_digest(outline),
        bitmap=votes.bitmap,
        signatures=tuple(votes.signatures[at : at + SIGNATURE_BYTES] for at in starts),
    )
    epoch = epoch_of(genesis.epoch_blocks, outline.height)
    check_certificate(certificate, genesis.chain, epoch, voters)


def _hashes(joined: bytes) -> tuple[bytes, ...]:
    if len(joined) % HASH_BYTES or len(joined) > PATH_HASHES_MAX * HASH_BYTES:
        raise BadEncoding("a path that is cut, or too long")
    return tuple(joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))
