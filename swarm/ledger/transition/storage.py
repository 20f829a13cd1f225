"""Have each checkpoint held by peers of other stages, and ask them in every epoch to show that they do.

Core: handlers on a draft. Raises ``InvalidStatement``.

    checkpoint --k blocks--> drawn --receipt--> held --epoch: leaves drawn--> asked --proof--> held, paid
                               |  none in time                                  |  none in time
                               '---------> another is drawn <-------------------'--- seat left, or evicted

A stage that loses all its peers at once loses everything that only they had. So three peers with seats in other
stages are drawn for each checkpoint; each says so on the ledger once it has the weights. Every epoch draws
leaves of 1 KiB for each receipt of the newest checkpoint of a stage that anybody holds: that is the one from
which a lost stage begins again, and a proof takes some 20 KB of a block. No stake is touched: whoever shows
nothing loses its receipt, and others see it.

An epoch asks a stage at a block of its first quarter that follows from run and stage.

Source: docs/spec/verification.md section 5.
"""

from collections.abc import Sequence

from swarm.errors import InvalidStatement, PeerFault, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Checkpoint, Params, Run, RunPhase
from swarm.ledger.state.state import Reader
from swarm.ledger.state.storage import NO_STORAGE, Holder, Storage, is_asked, receipts
from swarm.ledger.storage_statements import (
    LEAVES_DRAWN,
    StorageProof,
    StorageStatement,
    StoreReceipt,
)
from swarm.ledger.transition.payments import credit_work
from swarm.ledger.transition.prices import storage_pay
from swarm.primitives.codec import replace
from swarm.primitives.openings import Content, Tree, check_opening, covered, tensor_content
from swarm.primitives.randomness import stream
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex

HOLDERS = 3
"""Peers of other stages that hold a checkpoint: two of them may be gone at once."""

RECEIPT_ROUNDS = 2
"""Rounds from a draw in which a holder may say that it has the weights: a slow line needs one to fetch them."""

PROOF_BLOCKS_MIN = 20
"""Blocks in which a proof is accepted, at least: twice those for which a leader may omit a statement."""

PASSED_MAX = 32
"""Peers remembered that were drawn for a checkpoint in vain; the first of more are drawn like others again."""

ASKING = 4
"""Stages are asked in the first quarter of an epoch, each at a block of its own: all runs may list 131,072
checkpoints, and looking at all of them in one block would hold up every validator."""

_FLOAT_BYTES = 4


def note_checkpoints(
    draft: Draft,
    run: RunIndex,
    stage: StageIndex,
    before: Sequence[Checkpoint],
    after: Sequence[Checkpoint],
) -> None:
    """Schedule a draw of holders for each new checkpoint of a stage; forget those of what is listed no more."""
    old, new = ({checkpoint.round for checkpoint in kept} for kept in (before, after))
    draw = Height(draft.height + draft.globals.params.beacon_delay)
    for round_ in sorted(new - old):
        draft.put_storage(run, stage, round_, replace(NO_STORAGE, due=draw))
    for round_ in sorted(old - new):
        draft.drop_storage(run, stage, round_)


def wake_storage(draft: Draft, run: Run) -> None:
    """Schedule a draw for every checkpoint of a run that goes on after it was settled: its holders are gone."""
    due = Height(draft.height + draft.globals.params.beacon_delay)
    for stage, kept in enumerate(run.checkpoints):
        for checkpoint in kept:
            storage = draft.storage(run.index, stage, checkpoint.round) or NO_STORAGE
            draft.put_storage(run.index, stage, checkpoint.round, replace(storage, due=due))


def move_storage(draft: Draft, index: RunIndex, stage: StageIndex, round_: RoundIndex) -> None:
    """Void receipts without proof, replace holders that are gone, and draw leaves, as far as that is due."""
    storage, height = draft.storage(index, stage, round_), draft.height
    if storage is None or storage.due != height:
        return
    run = draft.run(index)
    if run.phase is RunPhase.SETTLED:
        draft.put_storage(index, stage, round_, replace(storage, due=Height(0)))
        return
    found = [c for c in run.standing(stage) if c.round == round_]
    if found:
        able = _able(run, stage, found[0].peer)
        storage = _drawn(draft, run, found[0], stage, able, _kept(draft, run, able, storage))
        storage = _asked(draft, run, found[0], stage, storage)
    else:  # undone or void: it is no start any more
        storage = replace(storage, holders=(), unheld=Height(0))
    due = _next_due(draft, run, _look(draft.globals.params, index, stage), storage)
    draft.put_storage(index, stage, round_, replace(storage, due=due))


def check_turn(reader: Reader, body: StorageStatement) -> PeerId:
    """Return the holder that must have signed a statement; raise unless it is its turn to make it."""
    storage, holder = _found(reader, body)
    if isinstance(body, StoreReceipt):
        if holder.receipt:
            raise InvalidStatement(Reason.DUPLICATE, "its receipt is posted")
    elif body.asked != storage.asked:
        raise InvalidStatement(Reason.WRONG_PHASE, f"block {storage.asked} drew leaves last")
    elif not is_asked(storage, holder):
        raise InvalidStatement(Reason.DUPLICATE, "nothing of it is asked for, or it is shown")
    elif reader.globals.height >= proof_end(reader.globals.params, storage):
        raise InvalidStatement(Reason.EXPIRED, "its time to show them is over")
    return holder.peer


def store(draft: Draft, body: StorageStatement) -> None:
    """Note a receipt, or check a proof and pay for it; ``check_turn`` has passed, and the signature."""
    (storage, holder), run = _found(draft, body), draft.run(body.run)
    if isinstance(body, StoreReceipt):
        changed = replace(holder, receipt=draft.height)
        storage = replace(storage, unheld=Height(0))
    else:
        checkpoint = _listed(run, body)
        check_leaves(checkpoint, storage, body)
        changed = replace(holder, proven=draft.height)
        _pay(draft, run, holder.peer)
    holders = tuple(changed if one.peer == changed.peer else one for one in storage.holders)
    draft.put_storage(body.run, body.stage, body.round, replace(storage, holders=holders))


def check_leaves(checkpoint: Checkpoint, storage: Storage, proof: StorageProof) -> None:
    """Raise ``InvalidStatement`` unless a proof has the leaves that were drawn for its holder, and no more."""
    content = content_of(checkpoint)
    wanted = leaves_drawn(content, storage.seed, proof)
    if [(one.start, one.start + len(one.data)) for one in proof.leaves] != wanted:
        raise InvalidStatement(Reason.BAD_PROOF, "not the leaves that were drawn")
    try:
        for leaf in proof.leaves:
            check_opening(content, checkpoint.phi_root, leaf)
    except PeerFault as fault:
        raise InvalidStatement(Reason.BAD_PROOF, str(fault)) from None


def content_of(checkpoint: Checkpoint) -> Content:
    """Return the form of a checkpoint's weights: float32, end to end."""
    numel = checkpoint.phi_bytes // _FLOAT_BYTES
    return tensor_content("float32", (numel,), checkpoint.phi_bytes)


def leaves_drawn(content: Content, seed: Digest, place: StorageStatement) -> list[tuple[int, int]]:
    """Return (start, stop) of the leaves that a beacon draws for a holder of a checkpoint, each once, in order.

    Each holder has others, so that none can copy the proof of another.
    """
    where = place.run, place.stage, place.round, place.holder
    dice = stream(seed, "ledger.storage.leaves", *where)
    at = (dice.below(content.num_bytes) for _ in range(LEAVES_DRAWN))
    return sorted({covered(content, byte, byte + 1) for byte in at})


def prove_storage(
    checkpoint: Checkpoint, storage: Storage, receipt: StoreReceipt, data: memoryview
) -> StorageProof:
    """Return the proof of a holder for the leaves drawn last, from the weights that it holds."""
    content = content_of(checkpoint)
    tree = Tree(content, data)
    leaves = leaves_drawn(content, storage.seed, receipt)
    return StorageProof(
        run=receipt.run,
        round=receipt.round,
        stage=receipt.stage,
        holder=receipt.holder,
        asked=storage.asked,
        leaves=tuple(tree.opening(start, stop) for start, stop in leaves),
    )


def proof_end(params: Params, storage: Storage) -> Height:
    """Return the height from which on proofs of the leaves drawn last are refused: half an epoch, at least."""
    blocks = max(params.epoch_blocks // 2, PROOF_BLOCKS_MIN)
    return Height(storage.asked + min(blocks, params.epoch_blocks))


def holders_of(reader: Reader, run: int, stage: int, round_: int) -> list[PeerId]:
    """Return who says that it holds a checkpoint, those first that have shown it most lately."""
    storage = reader.storage(run, stage, round_) or NO_STORAGE
    found = sorted(receipts(storage), key=lambda holder: (-holder.proven, holder.peer))
    return [holder.peer for holder in found]


def _found(reader: Reader, body: StorageStatement) -> tuple[Storage, Holder]:
    run = reader.run(body.run)
    storage = reader.storage(body.run, body.stage, body.round)
    if storage is None:
        raise InvalidStatement(Reason.WRONG_ROUND, f"no checkpoint of round {body.round} is listed")
    if run.phase is RunPhase.SETTLED:
        raise InvalidStatement(Reason.WRONG_PHASE, f"the run is {run.phase}")
    for holder in storage.holders:
        if holder.peer == body.holder:
            return storage, holder
    raise InvalidStatement(Reason.WRONG_PEER, "it was not drawn to hold this checkpoint")


def _listed(run: Run, body: StorageStatement) -> Checkpoint:
    return next(c for c in run.checkpoints[body.stage] if c.round == body.round)


def _pay(draft: Draft, run: Run, peer: PeerId) -> None:
    """Pay a holder for an epoch, and count it."""
    num_seats = sum(map(len, run.seats))
    pay = storage_pay(draft.globals.params, run.spec, run.escrow, num_seats)
    draft.put_run(replace(run, escrow=Amount(run.escrow - pay)))
    credit_work(draft, run.spec, peer, pay)
    work = draft.contribution(run.index, peer)
    draft.put_contribution(run.index, peer, replace(work, proofs=work.proofs + 1))


def _able(run: Run, stage: int, poster: PeerId) -> dict[PeerId, bool]:
    """Return the peers that may hold a checkpoint, and True for those without a stake.

    Of a run with one stage they are all but the poster: a stage that is all there is has no others.
    """
    is_only = len(run.seats) == 1
    own = set[PeerId]() if is_only else {seat.peer for seat in run.seats[stage]}
    rosters = [roster for i, roster in enumerate(run.seats) if is_only or i != stage]
    seats = [seat for roster in rosters for seat in roster]
    return {seat.peer: seat.is_volunteer for seat in seats if seat.peer not in {*own, poster}}


def _kept(draft: Draft, run: Run, able: dict[PeerId, bool], storage: Storage) -> Storage:
    """Return the storage without holders that are gone, gave no receipt in time, or have shown no leaves."""
    height, kept, passed = draft.height, list[Holder](), list[PeerId]()
    is_late = height >= proof_end(draft.globals.params, storage)
    for holder in storage.holders:
        end = holder.drawn + RECEIPT_ROUNDS * run.spec.round_blocks
        if holder.peer not in able:
            continue
        if is_late and is_asked(storage, holder):
            work = draft.contribution(run.index, holder.peer)
            missed = replace(work, proofs_missed=work.proofs_missed + 1)
            draft.put_contribution(run.index, holder.peer, missed)
            passed.append(holder.peer)
        elif not holder.receipt and height >= end:
            passed.append(holder.peer)
        else:
            kept.append(holder)
    is_unheld = passed and not any(holder.receipt for holder in kept)
    return replace(
        storage,
        holders=tuple(kept),
        passed=(*storage.passed, *passed)[-PASSED_MAX:],
        unheld=(storage.unheld or height) if is_unheld else storage.unheld,
    )


def _drawn(
    draft: Draft,
    run: Run,
    checkpoint: Checkpoint,
    stage: int,
    able: dict[PeerId, bool],
    storage: Storage,
) -> Storage:
    """Return the storage with as many holders as there can be, drawn by the beacon of this block.

    Peers with a stake come before free keys, and those that were drawn in vain after all others.
    """
    missing = HOLDERS - len(storage.holders)
    held = {holder.peer for holder in storage.holders}
    dice = stream(draft.globals.beacon, "ledger.storage", run.index, stage, checkpoint.round)
    order = dice.shuffled(sorted(peer for peer in able if peer not in held))
    order.sort(key=lambda peer: (peer in storage.passed, able[peer]))
    new = order[: max(missing, 0)]
    holders = tuple(Holder(peer, draft.height, Height(0), Height(0)) for peer in new)
    return replace(
        storage,
        holders=(*storage.holders, *holders),
        passed=tuple(peer for peer in storage.passed if peer not in new),
    )


def _look(params: Params, run: int, stage: int) -> int:
    """Return the block of every epoch, from 0, at which the checkpoints of a stage are looked at."""
    return (run + stage) % max(params.epoch_blocks // ASKING, 1)


def _asked(draft: Draft, run: Run, checkpoint: Checkpoint, stage: int, storage: Storage) -> Storage:
    """Return the storage with leaves drawn, once in an epoch, if nothing newer of the stage is held."""
    params = draft.globals.params
    look = _look(params, run.index, stage)
    if draft.height % params.epoch_blocks != look or not receipts(storage):
        return storage
    newer = [c.round for c in run.standing(stage) if c.round > checkpoint.round]
    others = (draft.storage(run.index, stage, number) for number in newer)
    if any(other is not None and receipts(other) for other in others):
        return storage
    return replace(storage, asked=draft.height, seed=draft.globals.beacon)


def _next_due(draft: Draft, run: Run, look: int, storage: Storage) -> Height:
    """Return the height at which something about a storage is due: its block of an epoch, at the latest."""
    params, height, patience = (
        draft.globals.params,
        draft.height,
        RECEIPT_ROUNDS * run.spec.round_blocks,
    )
    dates = [height + (look - height - 1) % params.epoch_blocks + 1]
    dates += [holder.drawn + patience for holder in storage.holders if not holder.receipt]
    if len(storage.holders) < HOLDERS:
        dates.append(height + patience)
    if any(is_asked(storage, holder) for holder in storage.holders):
        dates.append(proof_end(params, storage))
    return Height(min(dates))
