"""Move this node's own money: send it, put it up as a stake, take a stake back.

Shell: the actions behind ``swarm wallet``; each is one statement, waited for until it is final.
"""

from collections.abc import Mapping
from typing import Protocol

from swarm.errors import BadEncoding, InvalidStatement, UsageError
from swarm.events import EventKind
from swarm.ledger.transactions import AMOUNT_MAX, Stake, Transfer, Unstake
from swarm.node.api.actions import FINAL_WAIT_S
from swarm.node.ports import HasLedger, HasMe, HasReport
from swarm.primitives.crypto import parse_peer, peer_name
from swarm.types import Amount
from swarm.web.app import Action


class PayingNode(HasMe, HasLedger, HasReport, Protocol):
    """Parts of a node that move its money."""


class Purse:
    """Actions on the account of this node."""

    def __init__(self, context: PayingNode) -> None:
        self._context = context

    def actions(self) -> dict[str, Action]:
        """Return the actions by name."""
        return {
            "wallet-send": self.send,
            "wallet-stake": self.stake,
            "wallet-unstake": self.unstake,
        }

    async def send(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Pay ``amount`` to the peer ``to``, a PeerID; raises ``UsageError`` as the ledger refuses it."""
        amount = _amount(request)
        try:
            to = parse_peer(str(request.get("to", "")))
        except BadEncoding as error:
            raise UsageError(str(error), hint="swarm peers ls") from None
        if to == self._context.me:
            raise UsageError("that is this node's own account", hint="swarm wallet show")
        return await self._submit(Transfer(to, amount), f"sent {amount:,} to {peer_name(to)}")

    async def stake(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Turn ``amount`` of the balance into stake; raises ``UsageError`` as the ledger refuses it."""
        amount = _amount(request)
        return await self._submit(Stake(amount), f"put up {amount:,} as a stake")

    async def unstake(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Begin to take ``amount`` of the stake back; raises ``UsageError`` as the ledger refuses it."""
        amount, params = _amount(request), self._context.ledger.state.params
        blocks = params.unbonding_epochs * params.epoch_blocks
        text = f"began to take {amount:,} of the stake back: balance again in {blocks:,} blocks"
        return await self._submit(Unstake(amount), text)

    async def _submit(self, body: Transfer | Stake | Unstake, text: str) -> Mapping[str, object]:
        context = self._context
        try:
            height = await context.ledger.submit_final(body, FINAL_WAIT_S)
        except InvalidStatement as refused:
            raise UsageError(
                f"the ledger refuses it: {refused}", hint="swarm wallet show"
            ) from None
        context.report(EventKind.PROGRESS, text)
        account = context.ledger.state.account(context.me)
        return {
            "height": height,
            "balance": account.balance,
            "stake": account.stake,
            "text": f"{text}, in block {height}",
        }


def _amount(request: Mapping[str, object]) -> Amount:
    amount = request.get("amount")
    if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= AMOUNT_MAX:
        raise UsageError("an amount is a whole number above 0", hint="swarm wallet show")
    return Amount(amount)
