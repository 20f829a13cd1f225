"""Offer the actions that the user of this machine may ask of a running node: run control, checks, a ticket.

Shell: answers the local API; every failure is raised as a typed error.

These are the actions behind the commands. Only its owner can pause, resume or end a run, and everybody else can
leave it; ``node/api/audit.py`` carries out an audit or a report.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import trio

from swarm.config.bounds import PRICE_MAX
from swarm.errors import InvalidStatement, UsageError
from swarm.events import EventKind
from swarm.ledger.describe import progress_text
from swarm.ledger.state.records import Run, RunPhase
from swarm.ledger.transactions import CloseRun, Leave, PauseRun, ResumeRun
from swarm.ledger.transition.runs import boundary_height, current_round
from swarm.node.api.audit import Auditor
from swarm.node.ports import HasConfig, HasGenesis, HasHost, HasLedger, HasMe, HasReport, HasRun
from swarm.ticket import Ticket, format_ticket, widest
from swarm.types import Height, RunIndex
from swarm.web.app import Action

FINAL_WAIT_S = 60.0
"""Seconds to wait for finality: a healthy network takes a few blocks; a minute says that it is not healthy."""
Statement = Callable[[RunIndex], PauseRun | ResumeRun | CloseRun]
STATEMENTS: Mapping[str, Statement] = {"pause": PauseRun, "resume": ResumeRun, "stop": CloseRun}


class OwningNode(HasMe, HasRun, HasLedger, HasReport, Protocol):
    """Parts of a node that steer its run."""


class InvitingNode(HasMe, HasRun, HasHost, HasGenesis, Protocol):
    """Parts of a node that a ticket names."""


class SeatedNode(HasMe, HasRun, HasLedger, HasConfig, HasReport, Protocol):
    """Parts of a node that gives up its seat."""


class RunControl:
    """Actions of a run's owner."""

    def __init__(self, context: OwningNode) -> None:
        self._context = context

    def actions(
        self,
    ) -> dict[str, Callable[[Mapping[str, object]], Awaitable[Mapping[str, object]]]]:
        """Return the actions by name."""
        return {name: self._action(name) for name in STATEMENTS}

    def _action(
        self, name: str
    ) -> Callable[[Mapping[str, object]], Awaitable[Mapping[str, object]]]:
        async def action(_: Mapping[str, object]) -> Mapping[str, object]:
            return await self._say(name)

        return action

    async def _say(self, name: str) -> Mapping[str, object]:
        run, height = await self.change(name)
        text = outlook(run, self._context.ledger.height)
        self._context.report(EventKind.PROGRESS, text)
        return {
            "run": run.spec.name,
            "phase": run.phase.value,
            "round": run.next_round,
            "rounds": run.end_round,
            "height": height,
            "text": text,
        }

    async def change(self, name: str) -> tuple[Run, Height]:
        """Submit a statement to pause, resume or stop the run, and wait until it is final.

        Returns:
            The run afterwards, and the height of the block that holds the statement.

        Raises:
            UsageError: This node has no run or does not own it, or the ledger refuses the statement.
            Unreachable: It was not final within ``FINAL_WAIT_S``.
        """
        context = self._context
        run = context.run
        if run is None:
            raise UsageError("this node has no run yet", hint="swarm status")
        if run.owner != context.me:
            raise UsageError(
                f"only the owner of run {run.spec.name} may {name} it, and that is another peer",
                hint="swarm run show",
            )
        try:
            height = await context.ledger.submit_final(STATEMENTS[name](run.index), FINAL_WAIT_S)
        except InvalidStatement as refused:
            why = str(refused).removeprefix(f"{refused.reason.value}: ")
            raise UsageError(
                f"nothing to {name} in run {run.spec.name}: {why}", hint="swarm run show"
            ) from None
        run = context.run
        assert run is not None, "a run does not go away"
        return run, height


class SeatControl:
    """Action of a peer that gives up its seat."""

    def __init__(self, context: SeatedNode) -> None:
        self._context = context

    async def leave(self, _: Mapping[str, object]) -> Mapping[str, object]:
        """Give up seat and queue position at the next boundary, and train no more until the next start.

        The node goes on, and serves what its seat has learned to those that follow.

        Raises:
            UsageError: This node owns the run, or has nothing to give up, or the ledger refuses.
            Unreachable: The statement was not final within ``FINAL_WAIT_S``.
        """
        context = self._context
        run = context.run
        if run is None:
            raise UsageError("this node has no run yet", hint="swarm status")
        if run.owner == context.me:
            raise UsageError(
                f"the owner of run {run.spec.name} fills its empty stages and does not leave",
                hint="swarm stop ends the run; Ctrl-C leaves it for a while",
            )
        trains = context.config.solve
        context.config = context.config.model_copy(update={"solve": False})  # or it asks again
        try:
            height = await context.ledger.submit_final(Leave(run.index), FINAL_WAIT_S)
        except InvalidStatement as refused:
            context.config = context.config.model_copy(update={"solve": trains})
            why = str(refused).removeprefix(f"{refused.reason.value}: ")
            raise UsageError(f"nothing to leave in run {run.spec.name}: {why}") from None
        run = context.run
        assert run is not None, "a run does not go away"
        blocks = boundary_height(run, run.next_round) - context.ledger.height
        text = (
            f"gives up its seat in run {run.spec.name} in {blocks} blocks; keep this node running for a round"
            " after that, so that those that follow get what it has learned, then Ctrl-C"
        )
        context.report(EventKind.PROGRESS, text)
        return {"run": run.spec.name, "round": run.next_round, "height": height, "text": text}

    async def ask(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Let this node work for another pay, until its next start; its next duty states that on the ledger.

        Raises ``UsageError`` if ``ask`` is not a price, or this node owns the run.
        """
        context, ask = self._context, request.get("ask")
        if not isinstance(ask, int) or isinstance(ask, bool) or not 0 <= ask <= PRICE_MAX:
            raise UsageError("an ask is a whole number from 0 on", hint="swarm market")
        run = context.run
        if run is not None and run.owner == context.me:
            raise UsageError(
                f"the owner of run {run.spec.name} is paid what the round pays", hint="swarm market"
            )
        await trio.lowlevel.checkpoint()
        context.config = context.config.model_copy(update={"ask": ask})
        text = f"asks {ask:,} for 1,000 tokens; node.toml keeps it: ask = {ask}"
        if run is not None and ask > run.spec.price_max:
            text += f". Run {run.spec.name} pays {run.spec.price_max:,} at most: this node asks for no new seat"
        context.report(EventKind.PROGRESS, text)
        return {"ask": ask, "text": text}


def outlook(run: Run, height: int) -> str:
    """Return a sentence about what a run does now and next."""
    name, left = run.spec.name, boundary_height(run, run.next_round) - height
    blocks = f"{left} block{'s' * (left != 1)}"
    if run.phase is RunPhase.PAUSED:
        return f"run {name} rests before round {run.next_round}; go on with: swarm resume"
    if run.is_pausing:
        return f"run {name} rests from round {run.next_round} on, in {blocks}"
    if run.next_round >= run.end_round and run.phase in {RunPhase.OPEN, RunPhase.TRAINING}:
        return f"run {name} trains no more in {blocks}; then final averaging makes one model of its replicas"
    if run.phase is RunPhase.OPEN:
        return f"run {name} begins round {run.next_round} in {blocks}"
    return f"run {name}: {progress_text(run, current_round(run, height))}"


TICKET_DAYS = 30


def actions_of(
    context: InvitingNode, auditor: Auditor, control: RunControl, seats: SeatControl
) -> dict[str, Action]:
    """Return the actions by name."""

    async def invite(_: Mapping[str, object]) -> Mapping[str, object]:
        """Return a new ticket; the action behind ``swarm ticket new``."""
        return {"ticket": ticket_of(context)}

    checking = {"audit": auditor.audit, "report": auditor.report}
    return {
        "ticket": invite,
        "leave": seats.leave,
        "ask": seats.ask,
        **checking,
        **control.actions(),
    }


def ticket_of(context: InvitingNode) -> str:
    """Return an invitation to this node's run; raises ``UsageError`` as long as it has none."""
    if context.run is None:
        raise UsageError("this node has no run to invite to yet", hint="swarm status")
    return make_ticket(context)


def make_ticket(context: InvitingNode) -> str:
    """Return an invitation to this node's network and run, good for ``TICKET_DAYS``."""
    addresses = widest(context.host.addresses())
    if not addresses:
        raise UsageError("this node has no address to put into a ticket", hint="set listen")
    return format_ticket(
        Ticket(
            genesis16=context.genesis.chain[:16],
            run16=context.run16,
            peer=context.me,
            addresses=addresses,
            expires=int(time.time()) + TICKET_DAYS * 86_400,
        )
    )
