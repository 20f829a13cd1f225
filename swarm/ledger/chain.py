"""Build the next block, validate a block, verify a whole chain.

Core: pure functions over a head, which is a state and the digest of the block that led to it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from swarm.config.spec import Genesis
from swarm.errors import (
    BadEncoding,
    BadSignature,
    BrokenPromise,
    InvalidStatement,
    PeerFault,
    VerificationFailed,
)
from swarm.ledger.blocks import (
    BODY_BYTES_MAX,
    BODY_TRANSACTIONS_MAX,
    FINALIZE,
    Block,
    Certificate,
    Header,
    Validator,
    block_digest,
    body_root,
    check_block_shape,
    check_certificate,
    is_last_of_epoch,
    validators_digest,
    vrf_alpha,
)
from swarm.ledger.mempool import PART_TRANSACTIONS, Mempool
from swarm.ledger.state.state import State, audit_supply, genesis_state
from swarm.ledger.transition.apply import (
    NOTHING_KNOWN,
    Known,
    apply_block,
    apply_transaction,
    begin_in_parts,
)
from swarm.primitives import vrf
from swarm.primitives.crypto import SecretKey
from swarm.primitives.parts import Parts, at_once
from swarm.types import Digest, Height, PeerId, View


@dataclass(frozen=True, slots=True)
class Head:
    """Tip of a chain: the last block's digest and the state after it."""

    digest: Digest
    """Digest of the last block; the chain id at height 0."""
    state: State


@dataclass(frozen=True, slots=True)
class ChainReport:
    """Result of ``verify_chain``: the head and totals over the whole chain."""

    head: Head
    num_transactions: int
    num_certificates: int
    supply: int
    """Units of money, counted account by account."""


def genesis_head(genesis: Genesis) -> Head:
    """Return the head at height 0; raise ``BadEncoding`` if the genesis is out of bounds."""
    return Head(genesis.chain, genesis_state(genesis))


def ends_epoch(state: State) -> bool:
    """Return True if the block that led to ``state`` is the last one of its epoch."""
    return is_last_of_epoch(state.params.epoch_blocks, state.height)


def voted_on(state: State) -> tuple[Validator, ...]:
    """Return the validators that voted on the block that led to ``state``."""
    council = state.council
    return council.previous if ends_epoch(state) else council.current


def header_alpha(state: State, view: View) -> bytes:
    """Return the input of the VRF proof in the header of the block after ``state``."""
    return vrf_alpha(state.chain, state.next_epoch, view, state.beacon)


def validate_header(state: State, header: Header) -> bytes:
    """Return the leader's 64-byte VRF output; raise ``PeerFault`` unless this header can follow ``state``.

    Does not check that the leader is the one of the view: consensus does.
    """
    if header.chain != state.chain or header.height != state.height + 1:
        raise BrokenPromise("a header that does not follow its parent")
    if header.epoch != state.next_epoch or header.view <= state.globals.view:
        raise BrokenPromise("a header of another epoch, or of a view that was over")
    if all(validator.peer != header.leader for validator in state.validators):
        raise BrokenPromise("a header whose leader is no validator")
    return vrf.verify(header.leader, header_alpha(state, header.view), header.vrf_proof)


def validate_block(state: State, block: Block, *, known: Known = NOTHING_KNOWN) -> State:
    """Return the state after ``block``; raise ``PeerFault`` or ``InvalidStatement`` if it is not valid."""
    return at_once(validate_in_parts(state, block, known=known))


def validate_in_parts(state: State, block: Block, *, known: Known = NOTHING_KNOWN) -> Parts[State]:
    """Validate a block as ``validate_block`` does, and let the caller do something else in between.

    A full block of statements that nobody has seen takes a tenth of a second, most of it for signatures.
    """
    check_block_shape(block)
    header = block.header
    beta = validate_header(state, header)
    draft = yield from begin_in_parts(state, leader=header.leader, beta=beta, view=header.view)
    for number, data in enumerate(block.transactions):
        if number % PART_TRANSACTIONS == 0:
            yield
        apply_transaction(draft, data, known=known)
    after = yield from draft.finish_in_parts()
    if after.root != header.state_root:
        raise BrokenPromise("a block that does not lead to the state it names")
    if validators_digest(after.validators) != header.next_validators:
        raise BrokenPromise("a block that names other validators than those that vote next")
    return after


def find_omitted(
    state: State, block: Block, waiting: Sequence[bytes], *, known: Known = NOTHING_KNOWN
) -> bytes | None:
    """Return the first of the waiting transactions that a valid block omits without a reason, or None.

    Reasons are: the block is full, or the transaction is not valid after those that the block has.
    """
    return at_once(find_omitted_in_parts(state, block, waiting, known=known))


def find_omitted_in_parts(
    state: State, block: Block, waiting: Sequence[bytes], *, known: Known = NOTHING_KNOWN
) -> Parts[bytes | None]:
    """Look for an omission as ``find_omitted`` does, and let the caller do something else in between."""
    room = BODY_BYTES_MAX - sum(map(len, block.transactions))
    held = frozenset(block.transactions)
    able = [data for data in waiting if data not in held and len(data) <= room]
    if not able or len(block.transactions) >= BODY_TRANSACTIONS_MAX:
        return None
    header = block.header
    beta = vrf.output(header.vrf_proof)
    draft = yield from begin_in_parts(state, leader=header.leader, beta=beta, view=header.view)
    for number, data in enumerate(block.transactions):
        if number % PART_TRANSACTIONS == 0:
            yield
        apply_transaction(draft, data, known=known)
    for number, data in enumerate(able):
        if number % PART_TRANSACTIONS == 0:
            yield
        try:
            apply_transaction(draft.attempt(), data, known=known)
        except InvalidStatement:
            continue
        return data
    return None


def build_block(head: Head, pool: Mempool, secret: SecretKey, view: View) -> tuple[Block, State]:
    """Build and sign this node's block on ``head`` from the mempool; return it and the state after it."""
    return at_once(build_in_parts(head, pool, secret, view))


def build_in_parts(
    head: Head, pool: Mempool, secret: SecretKey, view: View
) -> Parts[tuple[Block, State]]:
    """Build a block as ``build_block`` does, and let the caller do something else in between."""
    proof = vrf.prove(secret, header_alpha(head.state, view))
    beta = vrf.output(proof)
    transactions, after = yield from pool.assemble_in_parts(
        head.state, leader=secret.peer, beta=beta, view=view
    )
    return _sealed(head, transactions, after, secret.peer, view, proof), after


def compose_block(
    head: Head, transactions: tuple[bytes, ...], secret: SecretKey, view: View
) -> tuple[Block, State]:
    """Build a block with exactly these transactions; raise ``InvalidStatement`` if one is not valid."""
    proof = vrf.prove(secret, header_alpha(head.state, view))
    beta = vrf.output(proof)
    after = apply_block(head.state, transactions, leader=secret.peer, beta=beta, view=view)
    return _sealed(head, transactions, after, secret.peer, view, proof), after


def _sealed(
    head: Head,
    transactions: tuple[bytes, ...],
    after: State,
    leader: PeerId,
    view: View,
    proof: bytes,
) -> Block:
    header = Header(
        chain=after.chain,
        height=after.height,
        epoch=head.state.next_epoch,
        view=view,
        parent=head.digest,
        state_root=after.root,
        body_root=body_root(transactions),
        next_validators=validators_digest(after.validators),
        vrf_proof=proof,
        leader=leader,
    )
    return Block(header, transactions)


def extend(head: Head, block: Block, *, known: Known = NOTHING_KNOWN) -> Head:
    """Return the head after ``block``; raise ``PeerFault`` or ``InvalidStatement`` if it does not fit."""
    return at_once(extend_in_parts(head, block, known=known))


def extend_in_parts(head: Head, block: Block, *, known: Known = NOTHING_KNOWN) -> Parts[Head]:
    """Extend a head as ``extend`` does, and let the caller do something else in between."""
    if block.header.parent != head.digest:
        raise BrokenPromise("a block with another parent")
    after = yield from validate_in_parts(head.state, block, known=known)
    return Head(block_digest(block.header), after)


def check_final(
    header: Header, certificate: Certificate, validators: tuple[Validator, ...]
) -> None:
    """Raise ``PeerFault`` unless ``certificate`` makes this block, and all before it, final.

    ``validators`` are those of the block's epoch. The last block of an epoch is proposed again until it is
    final: its certificate may be of a later view than it is.
    """
    if certificate.kind != FINALIZE or certificate.view < header.view:
        raise BadEncoding("not the finalization of this view")
    if certificate.block != block_digest(header):
        raise BadSignature("a finalization of another block")
    check_certificate(certificate, header.chain, header.epoch, validators)


def verify_chain(
    genesis: Genesis,
    links: Iterable[tuple[Block, Certificate | None]],
    *,
    start: Head | None = None,
    progress: Callable[[Height], None] | None = None,
) -> ChainReport:
    """Verify a chain from its genesis, or from another head that is known to be final.

    That is: hashes, VRF proofs, signatures, transactions, finality, supply.

    Args:
        genesis: The record that defines the network.
        links: The blocks from height 1 (or the start) up, each with its finalization if it has one of its own.
            A finalization covers all blocks before it in its epoch, so the last block must have one, and the
            last of every epoch: it is what makes the validators of the next one known.
        start: Head at the end of an epoch from which the blocks go on; None for the genesis.
        progress: Called with every height that was checked.

    Raises:
        VerificationFailed: With the height and the reason.
    """
    try:
        head = start or genesis_head(genesis)
    except BadEncoding as error:
        raise VerificationFailed(str(error)) from None
    is_final, num_transactions, num_certificates = True, 0, 0
    for block, certificate in links:
        height = Height(head.state.height + 1)
        validators = head.state.validators
        try:
            head = extend(head, block)
            if certificate is not None:
                check_final(block.header, certificate, validators)
        except (PeerFault, InvalidStatement) as error:
            raise VerificationFailed(f"block {height}: {error}") from None
        is_final = certificate is not None
        if not is_final and ends_epoch(head.state):
            raise VerificationFailed(f"block {height} ends an epoch and has no finalization")
        num_transactions += len(block.transactions)
        num_certificates += is_final
        if progress is not None:
            progress(height)
    if not is_final:
        raise VerificationFailed(f"block {head.state.height} has no finalization")
    supply = audit_supply(head.state)
    if supply != head.state.supply:
        raise VerificationFailed(f"there are {supply} units where {head.state.supply} should be")
    return ChainReport(head, num_transactions, num_certificates, supply)
