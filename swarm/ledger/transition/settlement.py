"""Handle settlement outside: validators agree on a contract, peers withdraw to it, epochs end in a statement.

Core: handlers on a draft. Raises ``InvalidStatement``.

    SettlementKey of more than 2/3 of the power for one contract --> PayoutLog
    Withdraw --> a leaf of the log; the amount is locked for good
    end of an epoch, if leaves or signers have changed --> PayoutStatement --SignPayouts--> settled outside

Nothing is done, and nothing stored, on a network whose validators have agreed on no contract. A signature is
kept as it comes: the ledger has no secp256k1. One that does not hold counts for nothing where it is settled,
which is what its sender would get by silence.

Source: docs/settlement.md.
"""

from collections import Counter

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.blocks import VALIDATORS_MAX, epoch_of, is_last_of_epoch
from swarm.ledger.check_statements import AMOUNT_MAX
from swarm.ledger.payouts import (
    LEAVES_MAX,
    find_key,
    find_log,
    find_statement,
    log_root,
    newest_payout,
    payout_leaf,
    with_leaf,
)
from swarm.ledger.settlement_statements import (
    SettlementKey,
    SettlementStatement,
    SignPayouts,
    Withdraw,
)
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.payouts import (
    LOG_KEY,
    STATEMENTS_KEPT,
    Payout,
    PayoutIndex,
    PayoutLog,
    PayoutSignature,
    PayoutStatement,
    SettlementMember,
    SettlementTarget,
    ValidatorKey,
    payout_index_key,
    payout_key,
    statement_key,
    validator_key_key,
)
from swarm.ledger.state.records import Params
from swarm.ledger.state.state import Reader
from swarm.primitives.codec import replace
from swarm.types import Amount, PeerId

WITHDRAWAL_FEES = 10
"""Least withdrawal, in minimum fees: a leaf is kept for ever, and claimed at the price of somebody's gas."""

SIGNATURES_OF_ONE = 2
"""Signatures of one validator on one statement: by a key that it has replaced, and by its present one."""

SIGNATURES_MAX = 2 * SIGNATURES_OF_ONE * VALIDATORS_MAX
"""Signatures on one statement: of the validators before it and after it."""


def apply_settlement(draft: Draft, sender: PeerId, body: SettlementStatement) -> None:
    """Apply a statement of settlement."""
    match body:
        case Withdraw():
            withdraw(draft, sender, body)
        case SettlementKey():
            register_key(draft, sender, body)
        case SignPayouts():
            sign_payouts(draft, sender, body)


def least_withdrawal(params: Params) -> Amount:
    """Return the least amount of a withdrawal."""
    return Amount(max(WITHDRAWAL_FEES * params.fee_min, 1))


def withdraw(draft: Draft, sender: PeerId, body: Withdraw) -> None:
    """Lock an amount for good, and add it to what the contract owes the address."""
    log, least = _log(draft), least_withdrawal(draft.globals.params)
    if body.amount < least:
        raise InvalidStatement(Reason.BALANCE, f"{body.amount} where the least is {least}")
    if log.count >= LEAVES_MAX:
        raise InvalidStatement(Reason.FULL, f"{LEAVES_MAX} payouts")
    draft.debit(sender, body.amount)
    before = newest_payout(draft, body.address, log.count)
    index, total = (before[0], before[1].total) if before is not None else (-1, 0)
    total = Amount(total + body.amount)
    assert total <= AMOUNT_MAX, "no more than the supply"
    draft.changes[payout_key(log.count)] = Payout(body.address, total, index)
    draft.changes[payout_index_key(body.address)] = PayoutIndex(log.count)
    draft.changes[LOG_KEY] = replace(
        log,
        count=log.count + 1,
        locked=Amount(log.locked + body.amount),
        peaks=with_leaf(log.peaks, log.count, payout_leaf(body.address, total)),
    )


def register_key(draft: Draft, sender: PeerId, body: SettlementKey) -> None:
    """Keep a validator's settlement key; open the log once more than 2/3 of the power name one contract."""
    council, log = draft.council, find_log(draft)
    voters = {validator.peer for validator in (*council.current, *council.next)}
    if sender not in voters:
        raise InvalidStatement(Reason.WRONG_PEER, "it does not validate in this epoch or the next")
    target = SettlementTarget(body.evm_chain, body.contract) if body.contract else None
    if log is not None and target != log.target:
        raise InvalidStatement(Reason.WRONG_PHASE, "the contract is agreed on, and is another")
    key = ValidatorKey(body.address, body.proof, target)
    if find_key(draft, sender) == key:
        raise InvalidStatement(Reason.DUPLICATE, "it is registered like this")
    draft.changes[validator_key_key(sender)] = key
    if log is None and target is not None and settlement_members(draft, target):
        draft.changes[LOG_KEY] = PayoutLog(target, 0, Amount(0), (), ())


def sign_payouts(draft: Draft, sender: PeerId, body: SignPayouts) -> None:
    """Keep a validator's signature on a statement; which of its keys made it is not known here.

    Who validates or has just done so may sign, and whose key is among the signers of a kept statement: the
    contract may be behind, and wait for those.
    """
    log, key, council = _log(draft), find_key(draft, sender), draft.council
    statement = find_statement(draft, body.epoch)
    if statement is None:
        raise InvalidStatement(Reason.EXPIRED, f"no statement of epoch {body.epoch} is kept")
    kept = (find_statement(draft, epoch) for epoch in log.statements)
    signers = {one.address for kept_one in kept if kept_one for one in kept_one.members}
    voters = {v.peer for v in (*council.previous, *council.current, *council.next)}
    if key is None or (sender not in voters and key.address not in signers):
        raise InvalidStatement(Reason.WRONG_PEER, "its key does not sign for the contract")
    own = [one.signature for one in statement.signatures if one.peer == sender]
    if body.signature in own or len(own) >= SIGNATURES_OF_ONE:
        raise InvalidStatement(Reason.DUPLICATE, "it has signed")
    if len(statement.signatures) >= SIGNATURES_MAX:
        raise InvalidStatement(Reason.FULL, f"{SIGNATURES_MAX} have signed")
    signed = PayoutSignature(sender, body.signature)
    signatures = (*statement.signatures, signed)
    draft.changes[statement_key(body.epoch)] = replace(statement, signatures=signatures)


def close_payouts(draft: Draft) -> None:
    """State the payouts at the end of an epoch, for validators to sign; called after the validators changed."""
    epoch_blocks = draft.globals.params.epoch_blocks
    log = find_log(draft)
    if log is None or not is_last_of_epoch(epoch_blocks, draft.height):
        return
    last = find_statement(draft, log.statements[-1]) if log.statements else None
    members = settlement_members(draft, log.target) or (last.members if last is not None else ())
    if not members or (last and (last.count, last.members) == (log.count, members)):
        return
    epoch = epoch_of(epoch_blocks, draft.height)
    root = log_root(log.peaks, log.count)
    kept = (*log.statements, epoch)
    for old in kept[:-STATEMENTS_KEPT]:
        draft.changes[statement_key(old)] = None
    draft.changes[statement_key(epoch)] = PayoutStatement(epoch, log.count, root, members, ())
    draft.changes[LOG_KEY] = replace(log, statements=kept[-STATEMENTS_KEPT:])


def settlement_members(
    reader: Reader, target: SettlementTarget | None
) -> tuple[SettlementMember, ...]:
    """Return the signers among the validators, by address; none unless they hold more than 2/3 of the power.

    Without a target those are meant that have a key for any contract, or for none yet: a new one begins so.
    Two validators may name one address: its power is that of both, since who holds it has not chosen that.
    """
    voters, powers = reader.council.current, Counter[bytes]()
    for validator in voters:
        key = find_key(reader, validator.peer)
        if key is not None and target in {None, key.target}:
            powers[key.address] += validator.power
    if 3 * powers.total() <= 2 * sum(validator.power for validator in voters):
        return ()
    return tuple(SettlementMember(address, Amount(powers[address])) for address in sorted(powers))


def _log(draft: Draft) -> PayoutLog:
    log = find_log(draft)
    if log is None:
        raise InvalidStatement(Reason.WRONG_PHASE, "this network settles on no contract")
    return log
