"""Say who goes on with a run, go on with one, and add to the escrow of one's own.

Shell: the actions behind ``swarm run continue`` and ``swarm run fund``; each is one statement, waited for until
it is final.
"""

from collections.abc import Mapping
from typing import Protocol

from swarm.errors import BadEncoding, InvalidStatement, UsageError
from swarm.events import EventKind
from swarm.ledger.check_statements import AMOUNT_MAX, SHORT_MAX
from swarm.ledger.state.records import Run
from swarm.ledger.transactions import BackOwner, ContinueRun, FundingStatement, FundRun
from swarm.node.api.actions import FINAL_WAIT_S
from swarm.node.ports import HasLedger, HasMe, HasReport, HasRun
from swarm.primitives.crypto import parse_peer, peer_name
from swarm.types import Amount, RunIndex
from swarm.web.app import Action


class FundingNode(HasMe, HasRun, HasLedger, HasReport, Protocol):
    """Parts of a node that holds shares of runs, or owns one."""


class Funder:
    """Actions of shareholders and owners."""

    def __init__(self, context: FundingNode) -> None:
        self._context = context

    def actions(self) -> dict[str, Action]:
        """Return the actions by name."""
        return {"run-back": self.back, "run-continue": self.go_on, "run-fund": self.fund}

    async def back(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Let the shares of this node count for the peer ``for`` as the next owner; for this node without one.

        Raises ``UsageError`` as the ledger refuses it.
        """
        run, wanted, me = self._named(request), str(request.get("for") or ""), self._context.me
        try:
            peer = parse_peer(wanted) if wanted else me
        except BadEncoding as error:
            raise UsageError(str(error), hint="swarm peers ls") from None
        name = "this node" if peer == me else peer_name(peer)
        text = f"wants {name} to go on with run {run.spec.name}"
        done = await self._submit(run, BackOwner(run.index, peer), text)
        state = self._context.ledger.state
        backed, total = state.backing(run.index, peer), state.run_shares(run.index).total
        percent = 100 * backed / max(total, 1)
        left = "enough" if 2 * backed > total else "more than half are needed"
        return {**done, "percent": percent, "text": f"{done['text']}: {percent:.1f}% do, {left}"}

    async def go_on(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Go on with a run as its owner, with ``escrow``; raises ``UsageError`` as the ledger refuses it."""
        run, escrow = self._named(request), _amount(request.get("escrow"))
        text = f"goes on with run {run.spec.name} as its owner, with {escrow:,} in escrow"
        done = await self._submit(run, ContinueRun(run.index, escrow), text)
        followed = self._context.run
        if followed is None or followed.index != run.index:
            return {**done, "text": f"{done['text']}; this node follows another run"}
        return done

    async def fund(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Add ``amount`` to the escrow of its run; raises ``UsageError`` as the ledger refuses it."""
        run, amount = self._context.run, _amount(request.get("amount"))
        if run is None:
            raise UsageError("this node has no run yet", hint="swarm status")
        text = f"adds {amount:,} to the escrow of run {run.spec.name}"
        return await self._submit(run, FundRun(run.index, amount), text)

    def _named(self, request: Mapping[str, object]) -> Run:
        index = request.get("run")
        if not isinstance(index, int) or isinstance(index, bool) or not 1 <= index <= SHORT_MAX:
            raise UsageError("a run has a number from 1 on", hint="swarm run ls")
        run = self._context.ledger.state.find_run(RunIndex(index))
        if run is None:
            raise UsageError(f"there is no run {index}", hint="swarm run ls")
        return run

    async def _submit(self, run: Run, body: FundingStatement, text: str) -> Mapping[str, object]:
        context = self._context
        try:
            height = await context.ledger.submit_final(body, FINAL_WAIT_S)
        except InvalidStatement as refused:
            raise UsageError(
                f"the ledger refuses it: {refused}", hint=f"swarm run shares {run.index}"
            ) from None
        context.report(EventKind.PROGRESS, text)
        return {"run": run.spec.name, "height": height, "text": f"{text}, in block {height}"}


def _amount(amount: object) -> Amount:
    if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= AMOUNT_MAX:
        raise UsageError("an amount is a whole number above 0", hint="swarm wallet show")
    return Amount(amount)
