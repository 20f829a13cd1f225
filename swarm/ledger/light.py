"""Prove entries of the ledger to somebody who has the genesis and nothing else.

Core: pure functions over frozen structs.

    genesis --validators of epoch 0--> handoff --of epoch 1--> ... --of epoch E--> finalization --> header
    header --state root--> path --> entry

A handoff is the last header of an epoch with its finalization: it names the validators of the next epoch. So a
proof grows by a handoff per epoch, and not with the blocks, the seats or the accounts. Of a header a proof has
only what it needs (``blocks.Outline``); the votes cover the network and the epoch.

Source: docs/spec/ledger.md section 2, after light clients of proof-of-stake chains.
"""

from collections.abc import Sequence

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
    last_height,
    outline_digest,
    outline_of,
    rest_digest,
    tail_digest,
    validators_digest,
    validators_of,
)
from swarm.ledger.state.records import Entry
from swarm.ledger.state.state import State
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import SIGNATURE_BYTES
from swarm.primitives.merkle import SparseProof, verify_included
from swarm.types import Digest, View

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
    """The last header of an epoch, made final by its validators, and the validators of the next epoch.

    Its place in a proof says which epoch and height it is of.
    """

    view: View
    """View in which the block was proposed first."""
    state_root: Digest
    rest: Digest
    """``blocks.rest_digest`` of the header."""
    votes: Votes
    validators: tuple[Validator, ...]


class Inclusion(Message, frozen=True):
    """An entry and its path to the state root; who asked knows its key."""

    value: bytes
    siblings: bytes
    """32 bytes of each sibling, from the root down."""


class LightProof(Message, frozen=True):
    """Proof of some entries, from the validators of the genesis on."""

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
    """Return the handoff of an epoch whose last block this is, to the validators that it names."""
    assert validators_digest(validators) == header.next_validators, "not the heirs it names"
    votes, heirs = votes_of(certificate), tuple(validators)
    return Handoff(header.view, header.state_root, rest_digest(header), votes, heirs)


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
    genesis: Genesis, proof: LightProof, expected: Sequence[tuple[bytes, type[Entry]]]
) -> list[Entry]:
    """Return the proved entries, which have these keys and types.

    Raises ``PeerFault`` unless the validators of the genesis, and those they handed over to, made the header
    final, and every entry is under its state root.
    """
    voters = follow_handoffs(genesis, proof.handoffs)
    if epoch_of(genesis.epoch_blocks, proof.outline.height) != len(proof.handoffs):
        raise BrokenPromise("a header of another epoch than its handoffs lead to")
    _check_final(genesis, proof.outline, proof.votes, voters)
    if len(proof.entries) != len(expected):
        raise BrokenPromise("not the entries that were asked for")
    found = list[Entry]()
    for inclusion, (key, kind) in zip(proof.entries, expected, strict=True):
        path = SparseProof(_hashes(inclusion.siblings), b"", b"")
        verify_included(proof.outline.state_root, key, inclusion.value, path)
        found.append(decode(kind, inclusion.value, limit=len(inclusion.value)))
    return found


def follow_handoffs(genesis: Genesis, handoffs: Sequence[Handoff]) -> tuple[Validator, ...]:
    """Return the validators of the epoch after these handoffs; raise ``PeerFault`` if one does not hold."""
    voters = validators_of(genesis)
    for epoch, handoff in enumerate(handoffs):
        if not 1 <= len(handoff.validators) <= VALIDATORS_MAX:
            raise BadEncoding("a handoff to nobody, or to too many")
        height = last_height(genesis.epoch_blocks, epoch)
        tail = tail_digest(validators_digest(handoff.validators), handoff.rest)
        outline = Outline(height, handoff.view, handoff.state_root, tail)
        try:
            _check_final(genesis, outline, handoff.votes, voters)
        except PeerFault as error:
            said = f"not the end of epoch {epoch}, or not its heirs: {error}"
            raise BrokenPromise(said) from None
        voters = handoff.validators
    return voters


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
