"""Render ledger state and segment checks as JSON rows and text, for ``swarm ledger`` and ``swarm run``.

Core: states and blocks in, plain dictionaries and sentences for people out. Nothing here decides anything.
"""

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding
from swarm.ledger.blocks import Block, Certificate, block_digest
from swarm.ledger.check_statements import (
    BoundCheck,
    ContestService,
    RevealSegment,
    VerifyCommit,
    VerifyReveal,
)
from swarm.ledger.demands import ShowEntry
from swarm.ledger.describe_checks import (
    CHECK_KINDS,
    check_text,
)
from swarm.ledger.payouts import address_text
from swarm.ledger.settlement_statements import (
    SettlementKey,
    SettlementStatement,
    SignPayouts,
    Withdraw,
)
from swarm.ledger.state.draft import is_confirmed
from swarm.ledger.state.records import Account, Run, RunPhase
from swarm.ledger.state.state import State, audit_supply
from swarm.ledger.storage_statements import StorageProof, StorageStatement, StoreReceipt
from swarm.ledger.transactions import (
    RUN_SPEC_BYTES_MAX,
    BackOwner,
    ChangeAsk,
    CloseRun,
    CommitSegment,
    ContinueRun,
    Evidence,
    FreeStatement,
    FundRun,
    Join,
    Leave,
    OpenRun,
    PauseRun,
    PostCheckpoint,
    ResumeRun,
    RunStatement,
    SeatStatement,
    Stake,
    Transaction,
    Transfer,
    Unstake,
    Validate,
    parse_transaction,
)
from swarm.ledger.transition.runs import (
    NAME_LENGTH_MAX,
    round_info,
)
from swarm.ledger.trust import trust_text
from swarm.primitives.codec import decode
from swarm.primitives.crypto import peer_name, peer_text
from swarm.types import PeerId

Row = dict[str, object]

KINDS: dict[type[object], str] = {
    CommitSegment: "commit_segment",
    PostCheckpoint: "post_checkpoint",
    OpenRun: "run_open",
    CloseRun: "run_close",
    PauseRun: "run_pause",
    ResumeRun: "run_resume",
    Join: "join",
    ChangeAsk: "change_ask",
    Leave: "leave",
    BackOwner: "back_owner",
    ContinueRun: "run_continue",
    FundRun: "run_fund",
    Transfer: "transfer",
    Stake: "stake",
    Unstake: "unstake",
    Validate: "validate",
    Evidence: "evidence",
    Withdraw: "withdraw",
    SettlementKey: "settlement_key",
    SignPayouts: "sign_payouts",
    StoreReceipt: "store_receipt",
    StorageProof: "storage_proof",
    **CHECK_KINDS,
}


def short_count(number: int) -> str:
    """Return a count in a short form: ``940``, ``47k``, ``1.2M``, ``3.0G``."""
    if number < 1000:
        return str(number)
    for unit, suffix in ((10**9, "G"), (10**6, "M")):
        if number >= unit:
            return f"{number // unit}.{number % unit * 10 // unit}{suffix}"
    return f"{number // 1000}k"


def transaction_text(state: State | None, transaction: Transaction) -> str:
    """Return one sentence, such as ``hazy-otter-697 committed segment 12/0/1: 23 steps, 47k tokens``.

    A free statement names its seat or check only; the peer is looked up in ``state`` while that still has it.
    """
    body = transaction.body
    if isinstance(body, FreeStatement):
        return _free_text(state, body)
    match body:
        case OpenRun() | CloseRun() | PauseRun() | ResumeRun() | Join() | ChangeAsk() | Leave():
            text = _run_text(body)
        case BackOwner() | ContinueRun() | FundRun():
            text = _run_text(body)
        case Transfer() | Stake() | Unstake() | Validate() | Evidence():
            text = _account_text(body)
        case Withdraw() | SettlementKey() | SignPayouts():
            text = _settlement_text(body)
        case _:
            text = check_text(body)
    return f"{peer_name(PeerId(transaction.sender))} {text}"


def _settlement_text(body: SettlementStatement) -> str:
    match body:
        case Withdraw(amount=amount, address=address):
            return f"withdrew {amount} to {address_text(address)}"
        case SettlementKey(address=address, contract=contract):
            of = f" for {address_text(contract)}" if contract else ""
            return f"settles with the key {address_text(address)}{of}"
        case SignPayouts(epoch=epoch):
            return f"signed the payouts of epoch {epoch}"


def _run_text(body: RunStatement) -> str:
    match body:
        case OpenRun(spec=spec, escrow=escrow):
            text = f"opened run {_spec_name(spec)} with {escrow} in escrow"
        case CloseRun(run=run):
            text = f"closed run {run}"
        case PauseRun(run=run):
            text = f"pauses run {run}"
        case ResumeRun(run=run):
            text = f"goes on with run {run}"
        case Join(run=run, ask=ask):
            text = f"asked to join run {run}" + (f" for {ask_text(ask)}" if ask >= 0 else "")
        case ChangeAsk(run=run, ask=ask):
            text = f"asks {ask_text(ask)} of run {run}"
        case Leave(run=run):
            text = f"leaves run {run}"
        case BackOwner(run=run, peer=peer):
            text = f"wants {peer_name(peer)} to go on with run {run}"
        case ContinueRun(run=run, escrow=escrow):
            text = f"goes on with run {run} as its owner, with {escrow} in escrow"
        case FundRun(run=run, amount=amount):
            text = f"adds {amount} to the escrow of run {run}"
    return text


def ask_text(ask: int) -> str:
    """Return an ask as text: ``9 for 1,000 tokens``."""
    return "what it pays at most" if ask < 0 else f"{ask:,} for 1,000 tokens"


def _account_text(body: Transfer | Stake | Unstake | Validate | Evidence) -> str:
    match body:
        case Transfer(to=to, amount=amount):
            return f"sent {amount} to {peer_name(to)}"
        case Stake(amount=amount):
            return f"staked {amount}"
        case Unstake(amount=amount):
            return f"began to unstake {amount}"
        case Validate(is_on=is_on):
            return "offers to validate" if is_on else "offers to validate no more"
        case Evidence(peer=peer, epoch=epoch, view=view):
            return f"shows that {peer_name(peer)} signed two ways in view {view} of epoch {epoch}"


def transaction_row(state: State | None, data: bytes) -> Row:
    """Return kind, sentence and size of an encoded transaction; kind ``unreadable`` if it does not decode."""
    try:
        transaction = parse_transaction(data)
    except BadEncoding as error:
        return {"kind": "unreadable", "text": str(error)}
    return {
        "kind": KINDS[type(transaction.body)],
        "text": transaction_text(state, transaction),
        "bytes": len(data),
    }


def block_row(state: State | None, block: Block, certificate: Certificate | None) -> Row:
    """Return a block and its transactions as a row."""
    header = block.header
    return {
        "height": header.height,
        "digest": block_digest(header).hex(),
        "view": header.view,
        "leader": peer_name(header.leader),
        "state_root": header.state_root.hex(),
        "votes": len(certificate.signatures) if certificate is not None else None,
        "transactions": [transaction_row(state, data) for data in block.transactions],
    }


def block_lines(state: State | None, block: Block) -> list[str]:
    """Return a block as text: one line, and one more per transaction."""
    header = block.header
    name = block_digest(header).hex()[:12]
    lines = [f"#{header.height} {name} by {peer_name(header.leader)}"]
    lines += [f"    {transaction_row(state, data)['text']}" for data in block.transactions]
    return lines


def ledger_row(state: State) -> Row:
    """Return the whole ledger as one row; counts every unit of money."""
    counted = audit_supply(state)
    return {
        "chain": state.chain.hex(),
        "height": state.height,
        "state_root": state.root.hex(),
        "epoch": state.next_epoch,
        "validators": [peer_name(validator.peer) for validator in state.validators],
        "trust": trust_text(state),
        "supply": state.supply,
        "supply_conserved": counted == state.supply,
        "runs": state.globals.num_runs,
        "entries": len(state.entries),
    }


def account_row(peer: PeerId, account: Account) -> Row:
    """Return one account as a row."""
    return {
        "peer": peer_text(peer),
        "name": peer_name(peer),
        "balance": account.balance,
        "stake": account.stake,
        "unbonding": sum(part.amount for part in account.unbonding),
        "nonce": account.nonce,
    }


def verified_share(state: State, run: Run, older_than_rounds: int = 2) -> tuple[int, int]:
    """Return (confirmed, all) counts of the segments committed ``older_than_rounds`` rounds ago or earlier.

    Confirmed means that another peer's replay agreed. Both are counted since the run began; a segment that is
    forgotten already counts as old enough, however short its challenge window was.
    """
    newest = state.height - older_than_rounds * run.spec.round_blocks
    live = [record for record in state.live_segments() if record.run == run.index]
    young = [record for record in live if record.height > newest]
    confirmed = state.verdicts(run.index).confirmed - sum(map(is_confirmed, young))
    return confirmed, state.run(run.index).num_segments - len(young)


def progress_text(run: Run, round_: int | None) -> str:
    """Return the progress of a run, such as ``round 3 of 20``."""
    if round_ is None:
        return str(run.phase)
    if run.phase is RunPhase.COOLING:
        number = round_ - run.end_round + 1
        return f"final averaging, round {number} of {run.consensus_rounds}"
    text = f"round {round_} of {run.end_round}"
    return f"{text}, then a pause" if run.is_pausing else text


def _free_text(state: State | None, body: FreeStatement) -> str:
    if isinstance(body, StorageStatement):
        return f"{peer_name(body.holder)} {_storage_text(body)}"
    run = state.find_run(body.run) if state is not None else None
    where = f"{body.round}/{body.stage}/{body.seat}"
    match body:
        case CommitSegment():
            text = f"committed segment {where}: {body.num_steps} steps, {short_count(body.tokens)} tokens"
        case PostCheckpoint():
            size = short_count(body.phi_bytes)
            text = f"posted checkpoint {where}: {body.phi_root.hex()[:12]}, {size}B"
        case VerifyCommit() | VerifyReveal() | ContestService():
            return f"{_verifier(state, body)} {check_text(body)}"
        case RevealSegment() | ShowEntry():
            text = check_text(body)
    return f"{_sitter(run, body)} {text}"


def _storage_text(body: StorageStatement) -> str:
    where = f"the checkpoint of stage {body.stage} from round {body.round}"
    match body:
        case StoreReceipt():
            return f"holds {where}"
        case StorageProof(leaves=leaves):
            return f"showed {len(leaves)} drawn pieces of {where}"


def _verifier(state: State | None, body: BoundCheck | VerifyReveal) -> str:
    segment_id = (body.run, body.round, body.stage, body.seat)
    record = state.segment(*segment_id) if state is not None else None
    checks = record.checks if record is not None else ()
    return peer_name(checks[body.check].peer) if body.check < len(checks) else "a verifier"


def _sitter(run: Run | None, body: SeatStatement | RevealSegment | ShowEntry) -> str:
    info = round_info(run, body.round) if run is not None else None
    rosters = [seats for seats in (info.seats if info else (), run.seats if run else ()) if seats]
    for seats in rosters:
        for seat in seats[body.stage] if body.stage < len(seats) else ():
            if seat.index == body.seat:
                return peer_name(seat.peer)
    return f"seat {body.seat} of stage {body.stage}"


def _spec_name(spec: bytes) -> str:
    try:
        name = decode(RunSpec, spec, limit=RUN_SPEC_BYTES_MAX).name[:NAME_LENGTH_MAX]
        return "".join(char if char.isprintable() else "?" for char in name)
    except BadEncoding:
        return "with an unreadable spec"
