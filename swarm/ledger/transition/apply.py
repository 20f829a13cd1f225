"""Apply one block to a state: ``apply_block(state, transactions) -> state``.

Core: pure functions. A block with one invalid transaction is invalid and changes nothing.

In order: the height rises and the leader's VRF output updates the beacon; skipped views are counted against
their leaders; runs at a round boundary cross it; segments that are due change phase, by the statements that are
missing; at the end of an epoch the validators change; the transactions are applied one after another. The
signature of each is verified last, after every cheap check, and before the court judges what is in it, or the
leaves of a holder are hashed.
"""

from collections.abc import Mapping, Sequence

from swarm.errors import BadEncoding, BadSignature, InvalidStatement, Reason
from swarm.ledger.blocks import next_beacon
from swarm.ledger.check_statements import (
    ContestService,
    DataRequest,
    DisputeMove,
    ForcedError,
    Fraud,
    Report,
    RevealSegment,
    TraceFraud,
    VerifyCommit,
    VerifyReveal,
    WitnessService,
)
from swarm.ledger.demands import DemandEntry, ShowEntry
from swarm.ledger.edges import EdgeFraud
from swarm.ledger.settlement_statements import SettlementKey, SignPayouts, Withdraw
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.state import State
from swarm.ledger.storage_statements import StorageStatement
from swarm.ledger.transactions import (
    BackOwner,
    ChangeAsk,
    CloseRun,
    CommitSegment,
    ContinueRun,
    Evidence,
    FreeCheck,
    FreeStatement,
    FundRun,
    Join,
    Leave,
    OpenRun,
    PaidBody,
    PauseRun,
    PostCheckpoint,
    ResumeRun,
    Stake,
    Transaction,
    Transfer,
    Unstake,
    Validate,
    check_signature,
    parse_transaction,
    transaction_digest,
)
from swarm.ledger.transition.accounts import charge_fee, stake, transfer, unstake, use_nonce
from swarm.ledger.transition.checks import (
    commit_check,
    meet_deadlines,
    prove_passed,
    request_data,
    reveal_check,
    reveal_segment,
)
from swarm.ledger.transition.contests import bear_witness, contest
from swarm.ledger.transition.demands import demand_entry, show_entry
from swarm.ledger.transition.disputes import (
    make_move,
    report,
)
from swarm.ledger.transition.frauds import convict_by_proof
from swarm.ledger.transition.funding import fund
from swarm.ledger.transition.runs import (
    change_ask_or_leave,
    cross_boundaries,
    join,
    open_run,
    steer_run,
)
from swarm.ledger.transition.segments import commit_segment, post_checkpoint, statement_seat
from swarm.ledger.transition.settlement import apply_settlement, close_payouts
from swarm.ledger.transition.storage import check_turn, store
from swarm.ledger.transition.validators import convict, offer, turn_epoch, turn_view
from swarm.primitives.codec import replace
from swarm.primitives.parts import Parts, at_once
from swarm.types import Digest, Height, PeerId, View

Known = Mapping[Digest, PeerId]
"""Transactions whose signature was verified before, by digest, and the signer it was verified for."""

NOTHING_KNOWN: Known = {}

Judged = DisputeMove | TraceFraud | ForcedError
"""Statements that the court judges: their checks cost more than a signature."""


def apply_block(
    state: State,
    transactions: Sequence[bytes],
    *,
    leader: PeerId,
    beta: bytes,
    view: View | None = None,
    known: Known = NOTHING_KNOWN,
) -> State:
    """Return the state after a block.

    Args:
        state: The state after the parent block.
        transactions: Encoded transactions, in the order of the block.
        leader: The validator that made the block and receives the fees.
        beta: The 64-byte VRF output of the leader, proved in the header.
        view: The view of the block in its epoch; None if no view was skipped before it.
        known: Transactions whose signatures are not verified again.

    Raises:
        InvalidStatement: For the first transaction that is invalid at its position.
    """
    draft = begin_block(state, leader=leader, beta=beta, view=view)
    for data in transactions:
        apply_transaction(draft, data, known=known)
    return draft.finish()


def begin_block(
    state: State,
    *,
    leader: PeerId,
    beta: bytes,
    view: View | None = None,
) -> Draft:
    """Return a draft of the next block before its transactions: all that time alone brings about is done."""
    return at_once(begin_in_parts(state, leader=leader, beta=beta, view=view))


def begin_in_parts(
    state: State,
    *,
    leader: PeerId,
    beta: bytes,
    view: View | None = None,
) -> Parts[Draft]:
    """Begin a block as ``begin_block`` does, and let the caller do something else in between.

    A round of a thousand seats has its verifiers drawn within a few blocks.
    """
    draft = _draft_at(state, state.height + 1, leader)
    beacon = next_beacon(state.beacon, beta)
    draft.put_globals(replace(draft.globals, beacon=beacon))
    turn_view(draft, view or View(state.globals.view + 1), leader)
    cross_boundaries(draft)
    yield from meet_deadlines(draft)
    turn_epoch(draft)
    close_payouts(draft)
    return draft


def check_transaction(
    state: State, data: bytes, *, known: Known = NOTHING_KNOWN, blocks_ahead: int = 1
) -> tuple[Transaction, PeerId]:
    """Raise ``InvalidStatement`` unless this could be in the block ``blocks_ahead`` from here.

    Returns the transaction and its signer. Boundaries and deadlines in between are not crossed: their beacons
    are not known.
    """
    no_leader = PeerId(bytes(32))
    draft = _draft_at(state, state.height + blocks_ahead, no_leader)
    return apply_transaction(draft, data, known=known)


def apply_transaction(
    draft: Draft,
    data: bytes,
    *,
    known: Known = NOTHING_KNOWN,
) -> tuple[Transaction, PeerId]:
    """Apply one encoded transaction to the draft; return it and its signer.

    Raises ``InvalidStatement``; the draft is then unusable, so every attempt gets a draft of its own.
    """
    try:
        transaction = parse_transaction(data)
    except BadEncoding as error:
        raise InvalidStatement(Reason.BAD_FIELD, str(error)) from None
    body = transaction.body
    if isinstance(body, StorageStatement):
        signer = check_turn(draft, body)
        _check_signer(draft, transaction, data, signer, known)
        store(draft, body)
        return transaction, signer
    if isinstance(body, FreeStatement):
        signer = _apply_free(draft, body)
    else:
        signer = PeerId(transaction.sender)
        if isinstance(body, Judged):
            _check_signer(draft, transaction, data, signer, known)
        is_sponsored = _charge(draft, transaction, len(data))
        _apply_paid(draft, body, signer, is_sponsored=is_sponsored)
    if not isinstance(body, Judged):
        _check_signer(draft, transaction, data, signer, known)
    return transaction, signer


def _check_signer(
    draft: Draft, transaction: Transaction, data: bytes, signer: PeerId, known: Known
) -> None:
    """Raise ``InvalidStatement`` unless its signer has signed a transaction."""
    if not known or known.get(transaction_digest(data)) != signer:
        try:
            check_signature(transaction, draft.globals.chain, signer)
        except BadSignature as error:
            raise InvalidStatement(Reason.BAD_SIGNATURE, str(error)) from None


def _apply_free(draft: Draft, body: FreeCheck) -> PeerId:
    """Apply a free statement; return the peer whose it is, and that must have signed it if it is signed."""
    match body:
        case RevealSegment():
            return reveal_segment(draft, body)
        case VerifyCommit():
            return commit_check(draft, body)
        case VerifyReveal():
            return reveal_check(draft, body)
        case ContestService():
            return contest(draft, body)
        case ShowEntry():
            return show_entry(draft, body)
        case CommitSegment():
            seat = statement_seat(draft, body)
            commit_segment(draft, seat, body)
        case PostCheckpoint():
            seat = statement_seat(draft, body)
            post_checkpoint(draft, seat, body)
    return seat.peer


def _charge(draft: Draft, transaction: Transaction, num_bytes: int) -> bool:
    """Check the expiry, use the nonce and charge the fee; return True if the run's escrow paid."""
    height = draft.height
    if not height <= transaction.expiry <= height + draft.globals.params.epoch_blocks:
        detail = f"{transaction.expiry} at height {height}"
        raise InvalidStatement(Reason.EXPIRED, detail)
    use_nonce(draft, transaction)
    return charge_fee(draft, transaction, num_bytes)


def _apply_paid(draft: Draft, body: PaidBody, sender: PeerId, *, is_sponsored: bool) -> None:
    match body:
        case OpenRun():
            open_run(draft, sender, body)
        case CloseRun() | PauseRun() | ResumeRun():
            steer_run(draft, sender, body)
        case Join():
            join(draft, sender, body, is_volunteer=is_sponsored)
        case ChangeAsk() | Leave():
            change_ask_or_leave(draft, sender, body)
        case BackOwner() | ContinueRun() | FundRun():
            fund(draft, sender, body)
        case Transfer() | Stake() | Unstake() | Validate() | Evidence():
            _apply_to_accounts(draft, body, sender)
        case DataRequest() | Report() | WitnessService() | DemandEntry():
            _apply_to_checks(draft, body, sender)
        case DisputeMove():
            make_move(draft, sender, body)
        case EdgeFraud() | TraceFraud() | ForcedError():
            _apply_proof(draft, sender, body)
        case Withdraw() | SettlementKey() | SignPayouts():
            apply_settlement(draft, sender, body)


def _apply_to_checks(
    draft: Draft, body: DataRequest | Report | WitnessService | DemandEntry, sender: PeerId
) -> None:
    match body:
        case DataRequest():
            request_data(draft, sender, body)
        case Report():
            report(draft, sender, body)
        case WitnessService():
            bear_witness(draft, sender, body)
        case DemandEntry():
            demand_entry(draft, sender, body)


def _apply_proof(draft: Draft, sender: PeerId, body: Fraud | ForcedError) -> None:
    if isinstance(body, ForcedError):
        prove_passed(draft, sender, body)
    else:
        convict_by_proof(draft, sender, body)


def _apply_to_accounts(
    draft: Draft, body: Transfer | Stake | Unstake | Validate | Evidence, sender: PeerId
) -> None:
    match body:
        case Transfer():
            transfer(draft, sender, body)
        case Stake():
            stake(draft, sender, body)
        case Unstake():
            unstake(draft, sender, body)
        case Validate():
            offer(draft, sender, body)
        case Evidence():
            convict(draft, sender, body)


def _draft_at(state: State, height: int, leader: PeerId) -> Draft:
    draft = Draft(state, leader)
    draft.put_globals(replace(draft.globals, height=Height(height)))
    return draft
