"""Move this node's own money: send it, put it up as a stake, take it back, withdraw it; sign what is withdrawn.

Shell: the actions behind ``swarm wallet`` and ``swarm settlement``; each is one statement, waited for until it
is final.
"""

from collections.abc import Mapping
from typing import Protocol

from swarm.errors import BadEncoding, InvalidStatement, UsageError
from swarm.events import EventKind
from swarm.ledger.check_statements import AMOUNT_MAX
from swarm.ledger.payouts import address_text, parse_address
from swarm.ledger.settlement_statements import (
    SettlementKey,
    SettlementStatement,
    SignPayouts,
    Withdraw,
    check_settlement_shape,
)
from swarm.ledger.transactions import Stake, Transfer, Unstake
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
            "wallet-withdraw": self.withdraw,
            "settlement-register": self.register,
            "settlement-sign": self.sign,
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

    async def withdraw(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Lock ``amount`` for good, to be paid out to the address ``to``; raises ``UsageError`` if refused."""
        amount = _amount(request)
        try:
            address = parse_address(str(request.get("to", "")))
        except BadEncoding as error:
            raise UsageError(str(error), hint="--to 0x and 40 hexadecimal digits") from None
        return await self._submit(
            Withdraw(amount, address), f"withdrew {amount:,} to {request['to']}"
        )

    async def register(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Register the settlement key ``address`` with its ``proof``, for a ``contract`` on ``evm_chain``."""
        body = SettlementKey(
            _hex(request, "address"),
            _hex(request, "proof"),
            _number(request, "evm_chain"),
            _hex(request, "contract"),
        )
        text = f"registered the settlement key {address_text(body.address)}"
        return await self._submit(_shaped(body), text)

    async def sign(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Post a settlement key's ``signature`` on the payouts of ``epoch``."""
        body = SignPayouts(_number(request, "epoch"), _hex(request, "signature"))
        return await self._submit(_shaped(body), f"signed the payouts of epoch {body.epoch}")

    async def _submit(
        self, body: Transfer | Stake | Unstake | SettlementStatement, text: str
    ) -> Mapping[str, object]:
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


def _shaped(body: SettlementStatement) -> SettlementStatement:
    """Return a statement within its bounds; raise ``UsageError`` for another."""
    try:
        check_settlement_shape(body)
    except BadEncoding as error:
        raise UsageError(str(error)) from None
    return body


def _hex(request: Mapping[str, object], name: str) -> bytes:
    try:
        return bytes.fromhex(str(request.get(name, "")))
    except ValueError:
        raise UsageError(f"{name} is not hexadecimal") from None


def _number(request: Mapping[str, object], name: str) -> int:
    number = request.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= AMOUNT_MAX:
        raise UsageError(f"{name} is a whole number from 0 on")
    return number
