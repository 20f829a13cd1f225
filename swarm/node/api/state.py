"""Build the one document behind the map, the page and every read command, from what a node knows.

Shell: reads the packages and the clock; ``figures`` and ``health`` decide, ``schema`` defines.
"""

import os
import time

import trio

from swarm import __version__
from swarm.dht.directory import SOLVE, VALIDATE, VERIFY, Announcement
from swarm.ledger.describe import transaction_row
from swarm.ledger.describe_checks import record_row
from swarm.ledger.run_views import escrow_rounds, storage_text
from swarm.ledger.state.records import Run
from swarm.ledger.state.state import audit_supply
from swarm.ledger.transition.market import price_of
from swarm.ledger.transition.prices import solver_stake
from swarm.ledger.trust import trust_text
from swarm.ledger.views import (
    conviction_row,
    is_seated_safely,
    recent_rows,
    run_checks,
    seat_outlook,
)
from swarm.node.api.figures import node_state, replayed_share, swarm_rate
from swarm.node.api.schema import (
    AuditRecord,
    BlockRow,
    CheckRow,
    ConvictionRow,
    EvaluationRow,
    EventRow,
    HealthRow,
    LedgerRow,
    NodeRow,
    OwnChecks,
    OwnSeconds,
    PeerRow,
    RunRow,
    SeatRow,
    StateDocument,
    TradeRow,
    TransactionRow,
)
from swarm.node.api.vitals import SeenPeer, Vitals, VitalsReading
from swarm.node.artifacts.evaluate import evaluations_of, measures
from swarm.node.context import NodeContext
from swarm.node.control.planner import ENDED
from swarm.node.join.join import TABLE, TICKET_KEY
from swarm.primitives.codec import read_document
from swarm.primitives.crypto import peer_name, peer_text
from swarm.training.devices.select import devices_for, devices_text
from swarm.training.model.stages import plans_of
from swarm.types import Height, PeerId

ROLES = ((SOLVE, "solver"), (VALIDATE, "validator"), (VERIFY, "verifier"))
TAIL_BLOCKS = 20
CURVE_POINTS_MAX = 500
SUPPLY_CHECK_S = 5.0
"""Seconds between two supply checks: counting every account walks the whole state, too slow for every poll."""


class StateBuilder:
    """Builds the document on demand, and watches in between whether height and tokens rise."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._started = trio.current_time()
        self._vitals = Vitals(context)
        self._supply: tuple[float, bool] = (float("-inf"), True)
        """Time of the last count, and True if it gave the supply that the state says: burned stake changes
        it."""
        self._parameters: dict[bytes, int] = {}
        self._blocks: dict[int, BlockRow] = {}
        """Rows of the newest blocks by height, made when the block was new."""
        self.url = ""

    async def watch(self) -> None:
        """Look again and again, so that every figure has a true age; until cancelled."""
        await self._vitals.watch()

    def take(self) -> StateDocument:
        """Return the document of GET /api/v1/state."""
        context, vitals = self._context, self._vitals.read()
        run, state = vitals.run, context.ledger.state
        health = vitals.health
        return StateDocument(
            health=HealthRow(
                verdict=health.verdict.value,
                cause=health.cause,
                command=health.command,
                age_s=int(health.age_s),
            ),
            node=self._node(vitals),
            run=None if run is None else self._run(run, vitals),
            ledger=self._ledger(vitals),
            peers=tuple(self._peer(peer, run) for peer in vitals.peers),
            seats=() if run is None else _seats(run),
            checks=()
            if run is None
            else read_document(tuple[CheckRow, ...], recent_rows(state, run)),
            convictions=tuple(
                read_document(ConvictionRow, conviction_row(one))
                for one in reversed(context.stats.convictions)
            ),
            loss_curve=tuple(
                (float(round_), loss)
                for round_, loss in sorted(self._vitals.curve.items())[-CURVE_POINTS_MAX:]
            ),
            trades=tuple(
                TradeRow(
                    round=trade.round,
                    fragment=trade.fragment,
                    stage=trade.stage,
                    source=peer_name(trade.source),
                    target=peer_name(trade.target) if trade.target else None,
                    ok=trade.is_done,
                    one_way=trade.is_one_way,
                )
                for trade in context.stats.notes
            ),
            events=tuple(
                EventRow(at=event.at_ms, kind=event.kind, text=event.text)
                for event in context.report.recent
            ),
        )

    def _node(self, vitals: VitalsReading) -> NodeRow:
        context, stats = self._context, self._context.stats
        isolation = stats.isolation
        return NodeRow(
            peer=peer_text(context.me),
            name=peer_name(context.me),
            version=__version__,
            home=str(context.home),
            state=node_state(
                vitals.health.verdict,
                vitals.run,
                is_seated=bool(vitals.seats),
                solves=context.config.solve,
            ),
            waits_for=stats.waits_for,
            outlook=self._outlook(vitals),
            uptime_s=int(vitals.now - self._started),
            addresses=tuple(context.host.addresses()),
            reach=str(context.host.reach.verdict().reached),
            reach_text=context.host.reach_text(),
            api_url=self.url,
            pid=os.getpid(),
            device=self._device(),
            steps=stats.steps,
            loss_nats=vitals.own_loss,
            tokens=stats.tokens,
            tokens_per_s=vitals.own_rate,
            tokens_age_s=int(vitals.own_age_s),
            trades=stats.trades,
            solo=stats.solo,
            seats=tuple(sorted(vitals.seats)),
            validates=context.ledger.is_validator,
            checks=self._own_checks(),
            seconds=self._seconds(),
            calls=context.pipeline.meter.calls,
            calls_s=round(context.pipeline.meter.call_s, 3),
            links=stats.links.connected,
            links_chosen=stats.links.chosen,
            link_networks=stats.links.networks,
            anchor_peers=stats.links.anchors,
            isolated_s=None if isolation is None else int(vitals.now - isolation.since),
        )

    def _device(self) -> str:
        """Return the devices this node computes on; for an exact run one, on which all bits were right."""
        context, run = self._context, self._context.run
        devices = context.devices if run is None else devices_for(run.spec, context.devices)
        threads = context.config.threads
        return f"{devices_text(devices)}, {threads} thread{'s' * (threads > 1)}"

    def _own_checks(self) -> OwnChecks:
        counts = self._context.checks.counts
        return OwnChecks(
            done=counts.done,
            agreed=counts.agreed,
            differed=counts.differed,
            missed=counts.missed,
            jackpots=counts.jackpots,
        )

    def _seconds(self) -> OwnSeconds:
        context = self._context
        hashing_s, packing_s = context.stats.hashing_s, context.checks.log_store.packing_s
        worker_s, checker_s = (
            sum(worker.spent_s.values()) for worker in (context.compute, context.checking)
        )
        cpu_s, passed_s = time.process_time(), trio.current_time() - self._started
        return OwnSeconds(
            compute=round(worker_s - hashing_s, 3),
            commit=round(hashing_s + packing_s, 3),
            check=round(checker_s, 3),
            wire=round(max(cpu_s - worker_s - checker_s - packing_s, 0.0), 3),
            wait=round(max(passed_s - cpu_s, 0.0), 3),
        )

    def _run(self, run: Run, vitals: VitalsReading) -> RunRow:
        context, state = self._context, self._context.ledger.state
        evaluations = read_document(tuple[EvaluationRow, ...], evaluations_of(context))
        newest = evaluations[-1] if evaluations else None
        last, ended = run.spec.num_stages - 1, run.phase in ENDED
        replayed, judged = replayed_share(state, run)
        rates = [one.rate for one in vitals.peers if last in {stage for stage, _ in one.seats}]
        return RunRow(
            index=run.index,
            name=run.spec.name,
            digest=run.spec_digest.hex(),
            phase=run.phase.value,
            round=run.rounds[-1].round if run.rounds else run.end_round if ended else 0,
            rounds=run.end_round,
            final_round=run.final_round,
            consensus_round=run.consensus_round,
            consensus_rounds=run.consensus_rounds,
            is_pausing=run.is_pausing,
            num_stages=run.spec.num_stages,
            parameters=self._count(run),
            loss_nats=vitals.loss,
            tokens=run.tokens,
            tokens_age_s=int(vitals.work_age_s),
            tokens_per_s=swarm_rate(rates),
            heldout=newest.loss_nats if newest else None,
            perplexity=newest.perplexity if newest else None,
            heldout_round=newest.round if newest else None,
            evaluations=evaluations,
            is_measured_here=measures(context, run),
            solver_stake=solver_stake(state.params, run.spec),
            price=price_of(run),
            price_max=run.spec.price_max,
            escrow_rounds=escrow_rounds(state, run),
            segments=run.num_segments,
            checks=run_checks(state, run),
            confirmed=state.verdicts(run.index).confirmed,
            way=run.spec.checks.way,
            judged_steps=judged,
            replayed_steps=replayed,
            owner=peer_name(run.owner),
            checkpoints=tuple(
                tuple((checkpoint.round, checkpoint.phi_root.hex()) for checkpoint in kept)
                for kept in run.checkpoints
            ),
            storage=tuple(
                storage_text(state, run, stage) if run.standing(stage) else ""
                for stage in range(len(run.checkpoints))
            ),
            waiting=len(run.waiting),
            ticket=self._ticket(),
        )

    def _outlook(self, vitals: VitalsReading) -> str:
        """Return this node's prospects of a seat, of losing it, or of the end of its trial; empty if it sits
        safely, or wants none.
        """
        context = self._context
        run = context.run
        if run is None or not context.config.solve:
            return ""
        state = context.ledger.state
        if vitals.seats and is_seated_safely(state, run, context.me):
            return ""
        return seat_outlook(state, run, context.me, context.config.ask)

    def _ticket(self) -> str | None:
        raw = self._context.store.get(TABLE, TICKET_KEY)
        return raw.decode() if raw else None

    def _count(self, run: Run) -> int:
        if run.spec_digest not in self._parameters:
            plans = plans_of(run.spec)
            self._parameters[run.spec_digest] = sum(plan.num_parameters for plan in plans)
        return self._parameters[run.spec_digest]

    def _ledger(self, vitals: VitalsReading) -> LedgerRow:
        ledger = self._context.ledger
        state, now = ledger.state, vitals.now
        if now - self._supply[0] > SUPPLY_CHECK_S:
            self._supply = (now, audit_supply(state) == state.supply)
        return LedgerRow(
            chain=state.chain.hex(),
            height=state.height,
            first=ledger.first,
            age_s=int(vitals.height_age_s),
            is_still=vitals.is_ledger_still,
            finality_s=None if vitals.is_ledger_still else ledger.finality_s,
            validators=tuple(peer_name(voter.peer) for voter in state.validators),
            validators_missing=vitals.missing,
            trust=trust_text(state),
            supply=state.supply,
            supply_conserved=self._supply[1],
            tail=self._tail(state.height),
        )

    def _tail(self, height: Height) -> tuple[BlockRow, ...]:
        rows = dict[int, BlockRow]()
        for at in range(height, max(height - TAIL_BLOCKS, 0), -1):
            row = self._blocks.get(at) or self._block(Height(at))
            if row is not None:
                rows[at] = row
        self._blocks = rows
        return tuple(rows.values())

    def _block(self, height: Height) -> BlockRow | None:
        ledger = self._context.ledger
        final = ledger.block_at(height)
        if final is None:
            return None
        block, _ = final
        transactions = [transaction_row(ledger.state, data) for data in block.transactions]
        return BlockRow(
            height=height,
            leader=peer_name(block.header.leader),
            transactions=read_document(tuple[TransactionRow, ...], transactions),
        )

    def _peer(self, one: SeenPeer, run: Run | None) -> PeerRow:
        context, state, seen = self._context, self._context.ledger.state, one.seen
        standing, announcement = one.standing, one.seen.announcement
        work = state.contribution(run.index, seen.peer) if run else None
        path = "you" if one.is_me else context.host.path(seen.peer) or "-"
        return PeerRow(
            peer=peer_text(seen.peer),
            name=peer_name(seen.peer),
            me=one.is_me,
            stages=tuple(sorted({stage for stage, _ in one.seats})),
            seats=one.seats,
            state=standing.state,
            reason=standing.reason,
            condition=standing.condition,
            gone_s=standing.gone_s,
            path=path,
            rtt_ms=seen.rtt_ms if seen.is_connected and not one.is_me else None,
            up_bytes=seen.up_bytes,
            down_bytes=seen.down_bytes,
            lag=seen.lag if standing.has_figures else 0,
            stake=state.account(seen.peer).stake,
            earned=work.earned if work else 0,
            segments=work.segments if work else 0,
            audits=read_document(AuditRecord, record_row(work) if work else {}),
            measured=seen.is_measured or one.is_me,
            age_s=int(seen.age_s),
            role=_role(announcement),
            tokens_per_s=one.rate,
            loss_nats=one.loss,
            round=announcement.round if announcement and standing.has_figures else None,
            steps=announcement.steps if announcement else 0,
            last_partner=peer_name(PeerId(announcement.last_partner))
            if announcement and announcement.last_partner
            else None,
            trades=announcement.num_traded if announcement else 0,
            solo=context.stats.solo if one.is_me else None,
            version=announcement.version if announcement else "",
        )


def _seats(run: Run) -> tuple[SeatRow, ...]:
    return tuple(
        SeatRow(
            stage=seat.stage,
            index=seat.index,
            name=peer_name(seat.peer),
            peer=peer_text(seat.peer),
            last_commit_round=seat.last_commit_round,
            tokens=seat.last_tokens,
        )
        for roster in run.seats
        for seat in roster
    )


def _role(announcement: Announcement | None) -> str:
    """Return the roles that a peer announces."""
    roles = [name for bit, name in ROLES if announcement.roles & bit] if announcement else []
    return ", ".join(roles) or "peer"
