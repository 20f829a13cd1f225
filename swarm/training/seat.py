"""Run one seat: admit micro-batches, compute them, step, and close the segment at the boundary.

Shell: waits and carries; ``StepPolicy`` decides when to step, ``RoundPlan`` where a micro-batch goes,
``SegmentRecorder`` computes and records. All arithmetic goes through ``SeatExecutor``.
"""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio
from torch import Tensor

from swarm.errors import PeerFault, Unreachable, UsageError
from swarm.executor import ExecutorPort
from swarm.gossip.trade.messages import Offer
from swarm.primitives.edges import Place, SentEntry
from swarm.training.averaging.outer_step import FragmentSnapshot, Merge
from swarm.training.data.dataset import TokenSource
from swarm.training.messages import (
    Forward,
    MicroBatch,
    MicroBatchGrad,
    Passed,
    TooBusy,
    in_flight_max,
    request_of,
)
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import SegmentLog
from swarm.training.record.window import WindowData
from swarm.training.recorder import SegmentRecorder, offer_entry
from swarm.training.shard import Shard
from swarm.training.step_policy import StepPolicy, StepSlot
from swarm.types import Digest, RoundIndex

WAITING_MAX_FACTOR = 8
"""Micro-batches that may wait for the next weight version, in units of the quota."""
RETRY_S = 0.25
"""Seconds that an origin pauses after a step without any path: replicas need a moment to come back."""
BUDGET_SHRINK_MS = 50
"""Milliseconds of the time budget that every hop keeps for its own answer."""


class SeatExecutor:
    """The worker thread of one seat: each method runs one job there, first come, first served.

    A job queued before a step belongs to that step, and no later one does.
    """

    def __init__(
        self, recorder: SegmentRecorder, tokens: TokenSource, compute: ExecutorPort
    ) -> None:
        self._recorder = recorder
        self._shard = recorder.shard
        self._tokens = tokens
        self._compute = compute

    # --- segments ---

    async def begin(
        self, plan: RoundPlan, anchor: tuple[Tensor, Digest] | None, *, is_shown: bool
    ) -> SegmentLog:
        """Open the segment of ``plan.round`` and return its log."""
        return await self._compute.run(self._recorder.begin, plan, anchor, is_shown)

    async def close(self, merges: Sequence[Merge], offers: Sequence[SentEntry]) -> list[WindowData]:
        """Take the last step, apply the waiting merges, list the offers, and return the windows completed."""
        return await self._compute.run(self._recorder.close, merges, offers)

    async def step(self, merges: Sequence[Merge]) -> list[WindowData]:
        """Take a step if there are gradients, then merge; return the windows completed."""
        return await self._compute.run(self._recorder.step, merges)

    # --- micro-batches ---

    async def forward(self, plan: RoundPlan, request: MicroBatch) -> tuple[bytes, Passed]:
        """Compute a micro-batch in a middle stage: (output on the wire, pass)."""
        return await self._compute.run(self._recorder.forward, self._tokens, plan, request)

    async def forward_tokens(
        self, plan: RoundPlan, step: int, microbatch: int
    ) -> tuple[bytes, Passed]:
        """Compute a micro-batch in the first stage of several: (output on the wire, pass)."""
        job = self._recorder.forward_tokens
        return await self._compute.run(job, self._tokens, plan, step, microbatch)

    async def backward(
        self, passed: Passed, request: MicroBatch | None, reply: MicroBatchGrad
    ) -> bytes:
        """Count the gradient of a returned micro-batch; return the one for the stage below (or b"")."""
        return await self._compute.run(self._recorder.backward, passed, request, reply)

    async def loss(self, request: MicroBatch) -> tuple[int, bytes]:
        """Compute a micro-batch in the last stage: (loss in 1e-6 nats, gradient of its input)."""
        return await self._compute.run(self._recorder.loss, self._tokens, request)

    async def loss_tokens(self, step: int, microbatch: int) -> int:
        """Compute a micro-batch of a one-stage run: its loss in 1e-6 nats."""
        return await self._compute.run(self._recorder.loss_tokens, self._tokens, step, microbatch)

    # --- fragments ---

    async def snapshot(self, exchange: int) -> FragmentSnapshot:
        """Copy the fragment of an exchange between two steps; raise ``TooBusy`` if that is not possible."""
        return await self._compute.run(self._recorder.snapshot, exchange)

    async def clip_or_reject(self, merge: Merge) -> Merge:
        """Return the merge unchanged, with a clipped weight, or as a solo step."""
        return await self._compute.run(self._recorder.clip_or_reject, self._tokens, merge)

    async def merge(self, merges: Sequence[Merge]) -> bool:
        """Merge between two steps; return False, changing nothing, if a merge is not possible now."""
        return await self._compute.run(self._recorder.merge, merges)

    # --- the slow weights ---

    async def phi(self) -> Tensor:
        """Return a copy of the slow weights."""
        return await self._compute.run(self._shard.phi)


class SeatWorker:
    """The running part of a seat: rounds, steps and micro-batches; ``shard`` holds its tensors."""

    def __init__(
        self,
        shard: Shard,
        seat_index: int,
        *,
        tokens: TokenSource,
        compute: ExecutorPort,
        forward: Forward,
        incarnation: int,
        windows: trio.MemorySendChannel[WindowData] | None = None,
    ) -> None:
        self.shard = shard
        self.spec = shard.spec
        self.stage = shard.stage
        self.index = seat_index
        self.plan: RoundPlan | None = None
        self.log: SegmentLog | None = None
        self.steps_total = 0
        self.loss_micro = -1
        self.incarnation = incarnation
        self._forward = forward
        self._windows = windows
        self._in_order = trio.Lock()
        """Held from a step, or the end of a segment, until its windows are sent: where both end at once, the
        scheduler wakes their tasks in any order."""
        self._recorder = SegmentRecorder(shard, seat_index, keeps_windows=windows is not None)
        self.jobs = SeatExecutor(self._recorder, tokens, compute)
        spec = self.spec
        self._stepper = StepPolicy(step_s=spec.deadlines.step_ms / 1000)
        self._changed = trio.Event()
        self._waiting = self._attempts = 0
        self._flights = trio.Semaphore(in_flight_max(spec))
        self._is_last = self.stage == spec.num_stages - 1
        self._merges: list[tuple[Merge, trio.Event]] = []
        self._offers: dict[Place, SentEntry] | None = None
        """Fragments offered in the open segment; None where nothing may be offered."""
        self._round_scope: trio.CancelScope | None = None

    # --- rounds ---

    async def begin_round(
        self, plan: RoundPlan, anchor: tuple[Tensor, Digest] | None, *, is_shown: bool = True
    ) -> None:
        """Open the segment of ``plan.round``; raise ``UsageError`` unless the previous one is closed.

        ``anchor`` replaces the current anchor after the start root is hashed, as that root must be the last one
        committed. If not ``is_shown``, no replay windows are recorded.
        """
        if self.log is not None:
            raise UsageError("close the open segment first")
        self.log = await self.jobs.begin(plan, anchor, is_shown=is_shown)
        self.plan, self._attempts, self._offers = plan, 0, {}
        quota = min(plan.quota(self.stage), MICROBATCHES_MAX)
        self._stepper.begin_round(quota, plan.steps_max)
        self._notify()

    async def close_round(self) -> SegmentLog:
        """Step with the gradients that have arrived, apply the waiting merges, and return the log.

        The last window of the segment is sent before this returns. Raises ``UsageError`` if no segment is open.
        """
        if self.log is None:
            raise UsageError("no segment is open")
        self._stepper.close_round()
        offers, self._offers = self._offers, None
        assert offers is not None, "an open segment takes offers"
        if self._round_scope is not None:
            self._round_scope.cancel()
        async with self._in_turn():
            log = self.log
            merges = [merge for merge, _ in self._merges]
            done = await self.jobs.close(merges, tuple(offers.values()))
            self.log = None
            self._finish_merges()
            self._notify()
            await self._send(done)
        return log

    async def reach(self, round_index: RoundIndex, budget_s: float) -> None:
        """Wait until this seat is in round ``round_index``; raise ``TooBusy`` after ``budget_s`` seconds."""
        deadline = trio.current_time() + budget_s
        while self.plan is None or self.plan.round < round_index or self.log is None:
            if trio.current_time() >= deadline:
                raise TooBusy(f"round {round_index} has not begun here")
            await self._wait_for_change(deadline)

    async def run(self) -> None:
        """Step when steps are due and, in stage 0, send micro-batches; runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._step_when_due)
            if self.stage == 0:
                nursery.start_soon(self._originate)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncGenerator[None]:
        """Hold the lock of windows; one that is free costs no turn of the scheduler."""
        try:
            self._in_order.acquire_nowait()
        except trio.WouldBlock:
            await self._in_order.acquire()
        try:
            yield
        finally:
            self._in_order.release()

    # --- fragments ---

    async def merge(self, merge: Merge) -> bool:
        """Queue a fragment's outer step and wait; return False if it was not and never will be applied."""
        log, done = self.log, trio.Event()
        self._merges.append((merge, done))
        self._notify()
        await done.wait()
        return log is not None and log.has_merged(merge.snapshot.exchange)

    def note_offer(self, window: int, offer: Offer) -> bool:
        """List a fragment that is offered, copied in ``window``; return False if it must not be signed.

        It must not once its segment is closed, or if other values were offered in the exchange.
        """
        entry = offer_entry(offer, window)
        if self._offers is None or self.plan is None or self.plan.round != offer.key.round:
            return False
        return self._offers.setdefault(entry.place, entry) == entry

    # --- one micro-batch, at this stage ---

    async def answer(self, request: MicroBatch, plan_round: RoundIndex) -> tuple[int, bytes]:
        """Compute a micro-batch from the stage below: (loss in 1e-6 nats, gradient of its input).

        Raises ``TooBusy`` if another replica should be asked instead, ``OutOfTurn`` for a micro-batch that was
        sent before.
        """
        deadline = trio.current_time() + request.budget_ms / 1000
        ticket = await self._admission(plan_round, deadline)
        plan, log = self.plan, self.log
        assert plan is not None, "an admitted micro-batch has an open round"
        assert log is not None, "an admitted micro-batch has an open round"
        answered = False
        try:
            self._stepper.see(request.microbatch_id)
            if self._is_last:
                loss_micro, payload = await self.jobs.loss(request)
                self._measured(log, loss_micro)
            else:
                loss_micro, payload = await self._pass_on(request, plan, ticket, deadline)
            answered = True
        finally:
            self._settle(ticket, answered=answered)
        return loss_micro, payload

    async def _pass_on(
        self, request: MicroBatch, plan: RoundPlan, ticket: StepSlot, deadline: float
    ) -> tuple[int, bytes]:
        output, passed = await self.jobs.forward(plan, request)
        budget_s = deadline - trio.current_time() - BUDGET_SHRINK_MS / 1000
        try:
            return await self._through(plan, passed, output, budget_s, ticket, request)
        except PeerFault as fault:
            # The stage below must not be blamed for a fault of the stage above.
            raise TooBusy(f"the gradient from above is of no use: {fault}") from None

    async def _through(
        self,
        plan: RoundPlan,
        passed: Passed,
        output: bytes,
        budget_s: float,
        ticket: StepSlot,
        below: MicroBatch | None,
    ) -> tuple[int, bytes]:
        """Send a micro-batch through the stages above; return (their loss, gradient for the stage below)."""
        request = request_of(
            plan,
            passed.microbatch_id,
            stage=self.stage + 1,
            source=self.index,
            incarnation=self.incarnation,
            version=self._stepper.version,
            payload=output,
        )
        reply = await self._forward(plan, request, passed.record.out_activation, budget_s)
        if not self._stepper.is_current(ticket):
            raise TooBusy("the answer came after the step")
        return reply.loss_micro, await self.jobs.backward(passed, below, reply)

    # --- stage 0: the origin of micro-batches ---

    async def _originate(self) -> None:
        while True:
            while self._stepper.is_full or not self.plan or self._attempts >= self.plan.steps_max:
                await self._wait_for_change(None)
            plan, step = self.plan, self._attempts
            self._attempts += 1
            with trio.move_on_after(math.inf) as self._round_scope:
                async with trio.open_nursery() as nursery:
                    for microbatch in range(plan.spec.microbatches_per_step):
                        nursery.start_soon(self._send_one, plan, step, microbatch)
            if self.plan is plan and not self._stepper.is_full:
                if self._stepper.answered or not self.shard.is_between_steps:
                    await self._take_step()
                else:
                    await trio.sleep(RETRY_S)

    async def _send_one(self, plan: RoundPlan, step: int, microbatch: int) -> None:
        ticket = self._stepper.admit(trio.current_time())
        log = self.log
        if ticket is None or log is None:
            return
        answered = False
        try:
            if self._is_last:
                loss = await self.jobs.loss_tokens(step, microbatch)
            else:
                loss = await self._send_through(plan, step, microbatch, ticket)
            self._measured(log, loss)
            answered = True
        except (Unreachable, PeerFault):
            self.shard.drop(self.index, step, microbatch)
        finally:
            self._settle(ticket, answered=answered)

    async def _send_through(
        self, plan: RoundPlan, step: int, microbatch: int, ticket: StepSlot
    ) -> int:
        async with self._flights:
            if trio.current_time() >= (self._stepper.deadline or 0.0):
                raise TooBusy("the step was over before its turn came")
            output, passed = await self.jobs.forward_tokens(plan, step, microbatch)
            budget_s = plan.spec.deadlines.step_ms / 1000
            loss_micro, _ = await self._through(plan, passed, output, budget_s, ticket, None)
            return loss_micro

    # --- steps ---

    async def _step_when_due(self) -> None:
        while True:
            now = trio.current_time()
            if self._merges and self._may_merge:
                await self._merge_now()
            elif self.stage > 0 and self._is_due(now):
                await self._take_step()
            elif self._stepper.expire(now):
                self._notify()
            else:
                # An origin may be past its deadline while answers are missing: not a busy loop then.
                deadline = self._stepper.deadline or now
                await self._wait_for_change(deadline if deadline > now else None)

    @property
    def _may_merge(self) -> bool:
        """True if no micro-batch is in flight or waits for its step: both belong to the old weights."""
        is_idle = self._stepper.is_full or self._stepper.deadline is None
        return is_idle and (self.log is None or self._recorder.may_merge)

    def _is_due(self, now: float) -> bool:
        """Return True if a step is due, also if only answers of an expired version are left."""
        if self._stepper.is_due(now):
            return True
        deadline = self._stepper.deadline
        is_late = deadline is not None and now >= deadline
        return is_late and not self._stepper.is_full and not self.shard.is_between_steps

    async def _take_step(self) -> None:
        async with self._in_turn():
            if self.log is None:
                return
            merges, self._merges = self._merges, []
            self._stepper.stepped()
            done = await self.jobs.step([merge for merge, _ in merges])
            for _, applied in merges:
                applied.set()
            self.steps_total += 1
            self._notify()
            await self._send(done)

    async def _merge_now(self) -> None:
        """Apply the waiting merges while no micro-batch is in flight that was computed with the old weights."""
        if self.log is None:
            self._finish_merges()
            return
        merges, self._merges = self._merges, []
        if await self.jobs.merge([merge for merge, _ in merges]):
            for _, applied in merges:
                applied.set()
        else:
            self._merges = merges + self._merges

    async def _send(self, done: list[WindowData]) -> None:
        """Send complete windows to the recording channel, in order; wait while it is full."""
        if self._windows is not None:
            for window in done:
                await self._windows.send(window)

    def _finish_merges(self) -> None:
        for _, done in self._merges:
            done.set()
        self._merges = []

    async def _admission(self, plan_round: RoundIndex, deadline: float) -> StepSlot:
        """Wait for a slot in a weight version of round ``plan_round``; raise ``TooBusy`` if too late."""
        if self._waiting >= WAITING_MAX_FACTOR * self._stepper.quota:
            raise TooBusy("too many micro-batches wait here")
        self._waiting += 1
        try:
            while True:
                now = trio.current_time()
                if self.plan is not None and self.plan.round > plan_round:
                    raise TooBusy(f"round {plan_round} is over here")
                if self.plan is not None and self.plan.round == plan_round:
                    ticket = self._stepper.admit(now)
                    if ticket is not None:
                        return ticket
                    if self._stepper.is_full:
                        raise TooBusy("this segment takes no more steps")
                if now >= deadline:
                    raise TooBusy("no place before the time budget ran out")
                await self._wait_for_change(deadline)
        finally:
            self._waiting -= 1

    def _settle(self, ticket: StepSlot, *, answered: bool) -> None:
        self._stepper.settle(ticket, answered=answered)
        self._notify()

    def _measured(self, log: SegmentLog, loss_micro: int) -> None:
        log.loss_sum_micro += loss_micro
        log.loss_count += 1
        self.loss_micro = loss_micro

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _wait_for_change(self, deadline: float | None) -> None:
        with trio.move_on_at(deadline if deadline is not None else trio.current_time() + 1.0):
            await self._changed.wait()
