"""Render runs as rows and lines: one in a list, all of one, and what each pays, to whom, for how long.

Core: final states in, plain dictionaries and lines for people out.
"""

from swarm.ledger.blocks import epoch_of
from swarm.ledger.describe import Row, progress_text, short_count, verified_share
from swarm.ledger.describe_checks import (
    guilty_rows,
    phase_counts,
    record_row,
    verdicts_row,
    verdicts_text,
)
from swarm.ledger.state.records import Run, Seat
from swarm.ledger.state.state import State
from swarm.ledger.state.storage import NO_STORAGE, receipts
from swarm.ledger.transition.market import price_of, taking_ask
from swarm.ledger.transition.prices import (
    RESERVED_ROUNDS,
    round_cost,
    segment_reward,
    solver_stake,
)
from swarm.ledger.transition.runs import (
    LIVE_PHASES,
    boundary_height,
    current_round,
    standing_of,
)
from swarm.ledger.transition.seats import keeps_up
from swarm.primitives.crypto import peer_name, peer_text
from swarm.types import PeerId


def run_row(state: State, run: Run) -> Row:
    """Return the row of a run in ``swarm run ls``."""
    peers = {seat.peer for roster in run.seats for seat in roster}
    return {
        "run": run.index,
        "name": run.spec.name,
        "digest": run.spec_digest.hex(),
        "phase": str(run.phase),
        "round": current_round(run, state.height),
        "rounds": run.end_round,
        "stages": run.spec.num_stages,
        "seats": sum(map(len, run.seats)),
        "peers": len(peers),
        "waiting": len(run.waiting),
        "segments": run.num_segments,
        "tokens": run.tokens,
        "escrow": run.escrow,
        "price": price_of(run),
        "price_max": run.spec.price_max,
        "seats_max": run.spec.num_stages * run.spec.replicas_max,
        "solver_stake": solver_stake(state.params, run.spec),
        "owner": peer_name(run.owner),
        **verdicts_row(state.verdicts(run.index)),
    }


RUN_HEADS = ["run", "name", "phase", "round", "pays", "seats", "waiting", "owner", "tokens"]


def run_cells(row: Row) -> list[str]:
    """Return the cells of a run in ``swarm run ls``, one for each of ``RUN_HEADS``."""
    tokens = row["tokens"]
    assert isinstance(tokens, int), "as made above"
    round_ = row["rounds"] if row["round"] is None else f"{row['round']} of {row['rounds']}"
    seats = f"{row['seats']} of {row['seats_max']}"
    named = [str(row[key]) for key in ("run", "name", "phase")]
    pay = [str(round_), f"{row['price']:,}", seats, str(row["waiting"])]
    return [*named, *pay, str(row["owner"]), short_count(tokens)]


def run_detail(state: State, run: Run) -> Row:
    """Return the row of ``swarm run show``: also seats, checkpoints, the queue, checks, work per peer."""
    row = run_row(state, run)
    round_ = current_round(run, state.height)
    row["blocks_to_boundary"] = (
        boundary_height(run, round_ + 1) - state.height if round_ is not None else None
    )
    row["seating"] = [_seat_row(seat) for roster in run.seats for seat in roster]
    row["queue"] = [peer_name(waiter.peer) for waiter in run.waiting]
    row["checkpoints"] = [
        {
            "stage": stage,
            "round": checkpoint.round,
            "phi_root": checkpoint.phi_root.hex(),
            "bytes": checkpoint.phi_bytes,
            "by": peer_name(checkpoint.peer),
            "height": checkpoint.height,
            **storage_row(state, run, stage, checkpoint.round),
        }
        for stage, kept in enumerate(run.checkpoints)
        for checkpoint in kept
    ]
    peers = sorted({seat.peer for roster in run.seats for seat in roster})
    row["checks"] = phase_counts(state, run.index)
    verified, old = verified_share(state, run)
    row["old_segments"] = {"all": old, "verified": verified}
    row["guilty_segments"] = guilty_rows(state.verdicts(run.index))
    row["work"] = [_work_row(state, run, peer) for peer in peers]
    return row


def run_lines(state: State, run: Run) -> list[str]:
    """Return a run as text: its progress and work, and one line per stage."""
    round_ = current_round(run, state.height)
    where = progress_text(run, round_)
    work = f"{run.num_segments} segments, {short_count(run.tokens)} tokens"
    lines = [f"{run.spec.name} (run {run.index}): {where}, {work}, escrow {run.escrow}"]
    for stage, roster in enumerate(run.seats):
        names = ", ".join(f"{seat.index} {peer_name(seat.peer)}" for seat in roster)
        lines.append(f"  stage {stage}: {names or 'empty'}")
    lines += [
        f"  stage {stage}: {storage_text(state, run, stage)}"
        for stage in range(len(run.checkpoints))
        if run.standing(stage)
    ]
    checked = verdicts_text(state.verdicts(run.index))
    if checked:
        lines.append(f"  {checked}")
    if run.waiting:
        lines.append(f"  waiting: {', '.join(peer_name(w.peer) for w in run.waiting)}")
    return lines


def storage_row(state: State, run: Run, stage: int, round_: int) -> Row:
    """Return who was drawn to hold a checkpoint, whose receipts stand, and when one last showed it."""
    storage = state.storage(run.index, stage, round_) or NO_STORAGE
    shown = max((holder.proven for holder in storage.holders), default=0)
    return {
        "holders": [peer_name(holder.peer) for holder in storage.holders],
        "receipts": [peer_name(holder.peer) for holder in receipts(storage)],
        "proven_epoch": epoch_of(state.params.epoch_blocks, shown) if shown else None,
        "held_by_nobody_since": storage.unheld or None,
    }


def storage_text(state: State, run: Run, stage: int) -> str:
    """Return who holds the newest checkpoint of a stage that anybody holds, and what a newer one lacks."""
    rows = [(c.round, storage_row(state, run, stage, c.round)) for c in run.standing(stage)]
    held = next(((number, row) for number, row in rows if row["receipts"]), None)
    newest, row = rows[0]
    texts = list[str]()
    if held is not None:
        texts.append(f"checkpoint of round {held[0]}: {_held_text(held[1])}")
    since, drawn = row["held_by_nobody_since"], row["holders"]
    assert isinstance(drawn, list), "as made above"
    if since:
        texts.append(f"checkpoint of round {newest}: held by nobody since block {since}")
    elif held is None:
        text = f"{len(drawn)} drawn to hold it" if drawn else "nobody drawn to hold it yet"
        texts.append(f"checkpoint of round {newest}: {text}")
    return "; ".join(texts)


def _held_text(row: Row) -> str:
    names, epoch = row["receipts"], row["proven_epoch"]
    assert isinstance(names, list), "as made above"
    shown = f"shown in epoch {epoch}" if epoch is not None else "not shown yet"
    return f"held by {', '.join(map(str, names))}, {shown}"


def _seat_row(seat: Seat) -> Row:
    return {
        "stage": seat.stage,
        "index": seat.index,
        "peer": peer_text(seat.peer),
        "name": peer_name(seat.peer),
        "joined_round": seat.joined_round,
        "last_commit_round": seat.last_commit_round,
        "tokens": seat.last_tokens,
    }


def _work_row(state: State, run: Run, peer: PeerId) -> Row:
    work = state.contribution(run.index, peer)
    return {
        "name": peer_name(peer),
        "segments": work.segments,
        "tokens": work.tokens,
        "earned": work.earned,
        "checkpoints": work.checkpoints,
        "proofs": work.proofs,
        "proofs_missed": work.proofs_missed,
        **record_row(work),
    }


MS_PER_HOUR = 3_600_000


def market_rows(state: State) -> list[Row]:
    """Return a row for each run that can be joined, by number."""
    return [market_row(state, run) for run in state.runs() if run.phase in LIVE_PHASES]


def market_row(state: State, run: Run) -> Row:
    """Return both sides of a run: what it pays and can pay, and the asks of those that wait with a stake.

    ``pay_per_hour`` is what one seat would earn at the speed of those that work now; None if none does.
    """
    waiting = [w.ask for w in run.waiting if standing_of(state, run, w.peer).has_stake]
    pace = seat_tokens(run)
    hourly = None if pace is None else pay_per_hour(state, run, pace)
    base = run_row(state, run)
    names = ("run", "name", "digest", "phase", "owner", "price_max", "price", "solver_stake")
    return {
        **{name: base[name] for name in names},
        "asks_waiting": sorted(waiting),
        "volunteers_waiting": len(run.waiting) - len(waiting),
        "taking_ask": taking_ask(run),
        "free_seats": [max(run.spec.replicas_max - len(roster), 0) for roster in run.seats],
        "escrow": run.escrow,
        "escrow_rounds": escrow_rounds(state, run),
        "tokens_per_seat_round": pace,
        "pay_per_hour": hourly,
    }


def escrow_rounds(state: State, run: Run) -> int:
    """Return the rounds that the escrow pays for all seats of now, at least: at the highest price."""
    cost = round_cost(state.params, run.spec, max(sum(map(len, run.seats)), 1))
    return max(run.escrow // cost - (RESERVED_ROUNDS - 1), 0)


def seat_tokens(run: Run) -> int | None:
    """Return the tokens of a segment, on average over the seats that commit; None if none does."""
    last = [seat.last_tokens for roster in run.seats for seat in roster if _works(run, seat)]
    return sum(last) // len(last) if last else None


def pay_per_hour(state: State, run: Run, tokens: int) -> int:
    """Return what a seat earns in an hour with segments of ``tokens``, at the price of the newest round."""
    round_ms = run.spec.round_blocks * state.params.block_interval_ms
    return segment_reward(tokens, price_of(run)) * MS_PER_HOUR // round_ms


def market_cells(row: Row) -> list[str]:
    """Return the cells of a run on the screen, one for each of ``MARKET_HEADS``."""
    asks, free = row["asks_waiting"], row["free_seats"]
    assert isinstance(asks, list), "as made above"
    assert isinstance(free, list), "as made above"
    hourly = row["pay_per_hour"]
    return [
        f"{row['run']} {row['name']}",
        str(row["phase"]),
        f"{row['price']:,}",
        f"{row['price_max']:,}",
        _asks_text(asks),
        "+".join(map(str, free)),
        f"{row['escrow_rounds']:,} rounds",
        f"{row['solver_stake']:,}",
        "-" if hourly is None else f"{hourly:,}",
    ]


MARKET_HEADS = ["run", "phase", "pays", "at most", "asks", "free", "escrow", "stake", "per hour"]
ASKS_SHOWN = 3


def _asks_text(asks: list[int]) -> str:
    shown = " ".join(f"{ask:,}" for ask in asks[:ASKS_SHOWN])
    more = len(asks) - ASKS_SHOWN
    return f"{shown} +{more}" if more > 0 else shown or "-"


def _works(run: Run, seat: Seat) -> bool:
    return seat.last_commit_round >= 0 and keeps_up(seat, run.next_round)
