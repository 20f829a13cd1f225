"""Build the state object behind the map, the page and every read command.

Shell: reads all packages; decides nothing. The shape is that of GET /api/v1/state.
"""

import os
import time

import trio

from swarm import __version__
from swarm.dht.directory import SOLVE, VALIDATE, VERIFY, Announcement, PeerView, view
from swarm.ledger.describe import record_row, transaction_row
from swarm.ledger.state.records import Run, RunPhase
from swarm.ledger.state.state import audit_supply
from swarm.ledger.views import conviction_row, recent_rows, run_checks
from swarm.node.artifacts.evaluate import evaluations_of, measures
from swarm.node.context import NodeContext
from swarm.node.control.planner import ENDED
from swarm.node.join.join import TABLE, TICKET_KEY
from swarm.primitives.crypto import peer_name, peer_text
from swarm.training.devices.select import devices_for, devices_text
from swarm.training.model.stages import plan_stages
from swarm.types import Height, PeerId

ROLES = ((SOLVE, "solver"), (VALIDATE, "validator"), (VERIFY, "verifier"))
TAIL_BLOCKS = 20
CURVE_POINTS_MAX = 500
SUPPLY_CHECK_S = 5.0
"""Seconds between two supply checks: counting every account walks the whole state, too slow for every poll."""


class StateBuilder:
    """Builder of the state object; slow parts are cached for a few seconds."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._started = trio.current_time()
        self._supply: tuple[float, bool] = (float("-inf"), True)
        """Time of the last count, and True if it gave the supply that the state says: burned stake changes
        it."""
        self._parameters: dict[bytes, int] = {}
        self.url = ""

    def take(self) -> dict[str, object]:
        """Return the object of GET /api/v1/state."""
        context, run = self._context, self._context.run
        return {
            "node": self._node(),
            "run": None if run is None else self._run(run),
            "ledger": self._ledger(),
            "peers": [self._peer(seen, run) for seen in self._views()],
            "seats": [] if run is None else _seats(run),
            "checks": [] if run is None else recent_rows(context.ledger.state, run),
            "convictions": [conviction_row(one) for one in reversed(context.tally.sentences)],
            "loss_curve": self._curve(),
            "trades": [
                {
                    "round": note.round,
                    "fragment": note.fragment,
                    "stage": note.stage,
                    "from": peer_name(note.source),
                    "to": peer_name(note.target) if note.target else None,
                    "ok": note.is_done,
                }
                for note in context.tally.notes
            ],
            "events": [
                {"at": event.at_ms, "kind": event.kind, "text": event.text}
                for event in context.report.recent
            ],
        }

    def _node(self) -> dict[str, object]:
        context = self._context
        seats = sorted(seat for seat in self._my_seats())
        return {
            "peer": peer_text(context.me),
            "name": peer_name(context.me),
            "version": __version__,
            "home": str(context.home),
            "state": self._state(),
            "waits_for": context.tally.waits_for,
            "uptime_s": int(trio.current_time() - self._started),
            "addresses": context.host.addresses(),
            "api_url": self.url,
            "pid": os.getpid(),
            "device": self._device(),
            "steps": context.tally.steps,
            "loss_nats": context.tally.training_loss,
            "tokens": context.tally.tokens,
            "trades": context.tally.trades,
            "solo": context.tally.solo,
            "seats": [list(seat) for seat in seats],
            "validates": context.ledger.is_validator,
            "checks": self._own_checks(),
            "seconds": self._seconds(),
            "calls": context.pipeline.meter.calls,
            "calls_s": round(context.pipeline.meter.call_s, 3),
        }

    def _device(self) -> str:
        """Return the devices this node computes on; for an exact run the CPU, whatever else there is."""
        context, run = self._context, self._context.run
        devices = context.devices if run is None else devices_for(run.spec, context.devices)
        threads = context.config.threads
        return f"{devices_text(devices)}, {threads} thread{'s' * (threads > 1)}"

    def _own_checks(self) -> dict[str, int]:
        """Return counts of the checks this node made of others' work since it started."""
        counts = self._context.checks.counts
        return {
            "done": counts.done,
            "agreed": counts.agreed,
            "differed": counts.differed,
            "missed": counts.missed,
            "judged": counts.judged,
        }

    def _seconds(self) -> dict[str, float]:
        """Return the seconds since the start, by use; they add up as long as one core does all.

        ``commit`` is what being checkable costs a solver: hashing, and recording windows; ``check`` is the
        replay of others' windows; ``wire`` the rest: links, signatures, ledger, fragments packed and opened.
        """
        context = self._context
        hashing_s, packing_s = context.tally.hashing_s, context.checks.shelf.packing_s
        worker_s, checker_s = (
            sum(worker.spent_s.values()) for worker in (context.compute, context.checking)
        )
        cpu_s, passed_s = time.process_time(), trio.current_time() - self._started
        return {
            "compute": round(worker_s - hashing_s, 3),
            "commit": round(hashing_s + packing_s, 3),
            "check": round(checker_s, 3),
            "wire": round(max(cpu_s - worker_s - checker_s - packing_s, 0.0), 3),
            "wait": round(max(passed_s - cpu_s, 0.0), 3),
        }

    def _state(self) -> str:
        context, run = self._context, self._context.run
        if run is None:
            return "syncing"
        if run.phase is RunPhase.PAUSED:
            return "paused"
        if run.phase in ENDED:
            return "finished"
        if self._my_seats():
            trains = "agreeing" if run.phase is RunPhase.COOLING else "training"
            has_begun = context.tally.steps or context.tally.open_loss is not None
            return trains if has_begun else "preparing"
        return "waiting for a seat" if context.config.solve else "following"

    def _my_seats(self) -> list[tuple[int, int]]:
        run = self._context.run
        if run is None:
            return []
        return [
            (seat.stage, seat.index)
            for roster in run.seats
            for seat in roster
            if seat.peer == self._context.me
        ]

    def _run(self, run: Run) -> dict[str, object]:
        said = [view.announcement for view in self._views() if view.announcement]
        losses = [one.loss_milli for one in said if one.loss_milli >= 0 and one.seats]
        evaluations = evaluations_of(self._context)
        last, ended = run.spec.num_stages - 1, run.phase in ENDED
        newest, tally = evaluations[-1] if evaluations else {}, self._context.tally
        rates = [one.tokens_per_s for one in said if last in {stage for stage, _ in one.seats}]
        return {
            "index": run.index,
            "name": run.spec.name,
            "digest": run.spec_digest.hex(),
            "phase": run.phase.value,
            "round": run.rounds[-1].round if run.rounds else run.end_round if ended else 0,
            "rounds": run.end_round,
            "final_round": run.final_round,
            "consensus_round": run.consensus_round,
            "consensus_rounds": run.consensus_rounds,
            "is_pausing": run.is_pausing,
            "num_stages": run.spec.num_stages,
            "parameters": self._count(run),
            "loss_nats": sum(losses) / len(losses) / 1000 if losses else tally.training_loss,
            "tokens": run.tokens,
            "tokens_per_s": sum(rates),
            "heldout": newest.get("loss_nats"),
            "perplexity": newest.get("perplexity"),
            "heldout_round": newest.get("round"),
            "evaluations": evaluations,
            "is_measured_here": measures(self._context, run),
            "segments": run.num_segments,
            "checks": run_checks(self._context.ledger.state, run),
            "confirmed": self._context.ledger.state.verdicts(run.index).confirmed,
            "owner": peer_name(run.owner),
            "checkpoints": [
                [[checkpoint.round, checkpoint.phi_root.hex()] for checkpoint in kept]
                for kept in run.checkpoints
            ],
            "waiting": len(run.waiting),
            "ticket": self._ticket(),
        }

    def _ticket(self) -> str | None:
        raw = self._context.store.get(TABLE, TICKET_KEY)
        return raw.decode() if raw else None

    def _count(self, run: Run) -> int:
        if run.spec_digest not in self._parameters:
            plans = plan_stages(run.spec.model, run.spec.num_stages)
            self._parameters[run.spec_digest] = sum(plan.num_parameters for plan in plans)
        return self._parameters[run.spec_digest]

    def _ledger(self) -> dict[str, object]:
        ledger = self._context.ledger
        state, now = ledger.state, trio.current_time()
        if now - self._supply[0] > SUPPLY_CHECK_S:
            self._supply = (now, audit_supply(state) == state.supply)
        return {
            "chain": state.chain.hex(),
            "height": state.height,
            "finality_s": ledger.finality_s,
            "validators": [peer_name(voter.peer) for voter in state.validators],
            "supply": state.supply,
            "supply_conserved": self._supply[1],
            "tail": self._tail(state.height),
        }

    def _tail(self, height: Height) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for at in range(height, max(height - TAIL_BLOCKS, 0), -1):
            final = self._context.ledger.block_at(Height(at))
            if final is None:
                continue
            block, _ = final
            rows.append(
                {
                    "height": at,
                    "leader": peer_name(block.header.leader),
                    "transactions": [
                        transaction_row(self._context.ledger.state, data)
                        for data in block.transactions
                    ],
                }
            )
        return rows

    def _views(self) -> tuple[PeerView, ...]:
        return view(self._context.dht.peer_map, trio.current_time())

    def _peer(self, seen: PeerView, run: Run | None) -> dict[str, object]:
        context, state = self._context, self._context.ledger.state
        is_me = seen.peer == context.me
        seats = [
            (seat.stage, seat.index)
            for roster in (run.seats if run else ())
            for seat in roster
            if seat.peer == seen.peer
        ]
        work = state.contribution(run.index, seen.peer) if run else None
        path = "you" if is_me else "direct" if seen.is_connected else "-"
        return {
            "peer": peer_text(seen.peer),
            "name": peer_name(seen.peer),
            "me": is_me,
            "stages": sorted({stage for stage, _ in seats}),
            "seats": [list(seat) for seat in seats],
            "state": _state_in(run, seen.state) if seats else seen.state,
            "reason": seen.reason,
            "path": path,
            "rtt_ms": None if is_me else seen.rtt_ms,
            "up_bytes": seen.up_bytes,
            "down_bytes": seen.down_bytes,
            "lag": seen.lag,
            "stake": state.account(seen.peer).stake,
            "earned": work.earned if work else 0,
            "segments": work.segments if work else 0,
            "audits": record_row(work) if work else {},
            "measured": seen.is_measured or is_me,
            "age_s": int(seen.age_s),
            **_claims(seen.announcement),
        }

    def _curve(self) -> list[list[float]]:
        return [[float(r), loss] for r, loss in self._context.tally.losses[-CURVE_POINTS_MAX:]]


def _state_in(run: Run | None, said: str) -> str:
    """Return the state of a peer with a seat: it announces training even if the run is paused or averages."""
    if run is None or said != "training":
        return said
    return {RunPhase.PAUSED: "paused", RunPhase.COOLING: "agreeing"}.get(run.phase, said)


def _seats(run: Run) -> list[dict[str, object]]:
    return [
        {
            "stage": seat.stage,
            "index": seat.index,
            "name": peer_name(seat.peer),
            "peer": peer_text(seat.peer),
            "last_commit_round": seat.last_commit_round,
            "tokens": seat.last_tokens,
        }
        for roster in run.seats
        for seat in roster
    ]


def _claims(said: Announcement | None) -> dict[str, object]:
    """Return what a peer announces of itself; defaults if it has announced nothing yet."""
    if said is None:
        return {
            "role": "peer",
            "tokens_per_s": 0,
            "loss_nats": None,
            "round": 0,
            "last_partner": None,
            "trades": 0,
            "version": "",
        }
    roles = [name for bit, name in ROLES if said.roles & bit]
    return {
        "role": ", ".join(roles) or "peer",
        "tokens_per_s": said.tokens_per_s,
        "loss_nats": said.loss_milli / 1000 if said.loss_milli >= 0 else None,
        "round": said.round,
        "last_partner": peer_name(PeerId(said.last_partner)) if said.last_partner else None,
        "trades": said.num_traded,
        "version": said.version,
    }
