"""Compute what work, checks and statements cost: fees, rewards, bonds, and the stake of a solver.

Core: pure functions of the ledger's parameters and a run's spec; amounts are integers.

The stake S of a solver is ``stake_segments`` times the reward of the largest segment that one seat can train on
its own share of the text. A lie about one segment gains at most that reward, so it loses money where it is
found with a probability above 1 / (S + 1).

Only the pay of solvers follows the price that a round clears at (``market``). Stakes, bonds, fines and the pay
of verifiers are measured by the highest price of the run, which its spec fixes: no ask can lower what a lie
costs.

Source: docs/spec/verification.md section 5.
"""

from swarm.config.spec import NANO, Genesis, RunSpec
from swarm.config.tolerance import bound_of
from swarm.ledger.check_statements import DisputeMove
from swarm.ledger.demands import SHOW_BYTES_MAX
from swarm.ledger.state.records import Params, SegmentRecord
from swarm.ledger.transactions import Body, Join, Leave
from swarm.primitives.codec import encode
from swarm.types import Amount

CHECKS_MAX = 4
"""Verifiers at work on one segment at a time: twice the number that one draw selects on average."""

PANEL_SIZE = 3
"""Verifiers that must all agree with one that rejects a window, in a run without exact numerics."""

PRICED_TOKENS = 1000
"""Tokens that a price is for."""

SILENCE_REWARDS = 3
"""Loss of a silent solver that was asked, in rewards at the run's highest price, its own pay included: hiding a
lie must cost more than it hides, whatever the seats of the round are paid."""

DEPOSIT_FEES = 100
"""Least escrow of an open run, in minimum fees: an idle run costs every node work at every boundary."""

RESERVED_ROUNDS = 3
"""Rounds that an escrow must be able to pay at a boundary: the new one, and two that commit after theirs."""

BOND_FEES = 10
"""Least bond of a request or a report, in minimum fees: accusing what earned nothing costs something too."""

REFUTED_MAX = 10
"""Refuted accusations after which the price of the next one doubles no more: it is a thousandfold."""

ENVELOPE_BYTES = 192
"""Bytes reserved for sender, nonce, fee, expiry and signature around a body (at most 145 are used)."""

REQUEST_BYTES = 160
"""Bytes of a request, rounded up."""


def required_fee(params: Params, num_bytes: int) -> Amount:
    """Return the least fee for a transaction of ``num_bytes`` encoded bytes, rounded up."""
    return Amount(params.fee_min + -(-num_bytes * params.fee_per_byte_nano // NANO))


def sufficient_fee(params: Params, body: Body) -> Amount:
    """Return a fee that is enough for ``body``, whatever the other fields of the transaction are."""
    return required_fee(params, len(encode(body)) + ENVELOPE_BYTES)


SPONSORED = (Join, Leave, DisputeMove)
"""Statements that the escrow of a run may pay for: of moves only those of an accused solver at its turn."""


def offered_fee(params: Params, body: Body, balance: Amount) -> Amount:
    """Return the fee a sender with this balance should offer: 0 if the run's escrow pays for it."""
    fee = sufficient_fee(params, body)
    return Amount(0) if balance < fee and isinstance(body, SPONSORED) else fee


def leaves_max(spec: RunSpec) -> int:
    """Return the most leaves of one segment: its steps, and a merge per exchange."""
    return spec.inner_steps_max + spec.outer.exchanges


def segment_tokens_max(spec: RunSpec, num_origins: int) -> int:
    """Return the most tokens of one segment of a seat that ``num_origins`` seats feed."""
    step = spec.microbatches_per_step * spec.microbatch_size * spec.model.seq_len
    return spec.inner_steps_max * step * max(num_origins, 1)


def segment_reward(tokens: int, price: int) -> Amount:
    """Return the reward of a segment of ``tokens`` at a price for 1,000 of them."""
    return Amount(tokens * price // PRICED_TOKENS)


def reward_max(spec: RunSpec, tokens: int) -> Amount:
    """Return the reward of a segment at the highest price of its run: what stakes and fines are measured by."""
    return segment_reward(tokens, spec.price_max)


def solver_stake(params: Params | Genesis, spec: RunSpec) -> Amount:
    """Return S, the stake of a solver of this run: without it a peer is a volunteer and checks nobody."""
    return Amount(params.stake_segments * max(reward_max(spec, segment_tokens_max(spec, 1)), 1))


def check_fee(params: Params) -> Amount:
    """Return the fee of a request, at most: the answers that follow it are free."""
    return required_fee(params, ENVELOPE_BYTES + REQUEST_BYTES)


def check_pay(params: Params, spec: RunSpec, tokens: int, num_steps: int) -> Amount:
    """Return what a verifier of one window of such a segment earns: its fee, and the pay of the window.

    That is at the highest price of the run: solvers that undercut each other do not lower the pay of those who
    check them.
    """
    steps = min(spec.checks.window_steps, num_steps)
    paid = tokens * steps * spec.price_max
    work = -(-paid // (PRICED_TOKENS * num_steps)) if num_steps else 0
    return Amount(check_fee(params) + max(work, 1))


def checks_reserved(spec: RunSpec) -> int:
    """Return how many verifiers' pay a commit takes out of the escrow: a panel besides, where bits differ."""
    return CHECKS_MAX + (PANEL_SIZE if bound_of(spec) is not None else 0)


def round_cost(params: Params, spec: RunSpec, num_seats: int) -> Amount:
    """Return what a round of ``num_seats`` seats costs its run, at most: solvers, at its highest price, and
    verifiers.
    """
    tokens, steps = segment_tokens_max(spec, 1), spec.inner_steps_max
    checks = checks_reserved(spec) * check_pay(params, spec, tokens, steps)
    return Amount(num_seats * (reward_max(spec, tokens) + checks))


def run_deposit(params: Params, spec: RunSpec) -> Amount:
    """Return the least escrow with which a run opens: it can pay its first rounds."""
    first = RESERVED_ROUNDS * round_cost(params, spec, spec.num_stages)
    return Amount(max(DEPOSIT_FEES * params.fee_min, first))


def storage_pay(params: Params, spec: RunSpec, escrow: int, num_seats: int) -> Amount:
    """Return the pay of a holder for one epoch: that of one check, out of what no round under way may need."""
    tokens, steps = segment_tokens_max(spec, 1), spec.inner_steps_max
    spare = max(escrow - RESERVED_ROUNDS * round_cost(params, spec, num_seats), 0)
    return Amount(min(check_pay(params, spec, tokens, steps), spare))


def request_bond(params: Params, record: SegmentRecord) -> Amount:
    """Return the bond of a verifier's request, and the amount that a silent solver owes each of them."""
    return Amount(max(record.check_pay, BOND_FEES * params.fee_min))


def silence_fine(params: Params, spec: RunSpec, record: SegmentRecord) -> Amount:
    """Return what a silent solver that was asked is fined beside the pay it loses; one bond at least."""
    fine = SILENCE_REWARDS * reward_max(spec, record.tokens) - record.reward
    return Amount(max(fine, request_bond(params, record)))


def report_bond(params: Params, spec: RunSpec, record: SegmentRecord, num_refuted: int) -> Amount:
    """Return the bond a reporter loses if it is wrong; it doubles with each accusation refuted before."""
    base = max(reward_max(spec, record.tokens), BOND_FEES * params.fee_min, 1)
    return Amount(base << min(num_refuted, REFUTED_MAX))


def contest_bond(params: Params, spec: RunSpec, record: SegmentRecord) -> Amount:
    """Return the bond of a complaint: the first report of a false accusation costs as much."""
    return report_bond(params, spec, record, 0)


def demand_bond(params: Params) -> Amount:
    """Return the bond of a demand: the fee of the longest answer, which costs who gives it nothing."""
    return required_fee(params, SHOW_BYTES_MAX)


def witness_pay(params: Params) -> Amount:
    """Return what a witness has for a statement that most others agree with: twice its fee."""
    return Amount(2 * check_fee(params))
