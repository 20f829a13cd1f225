"""Run an engine in this process, for tests and benchmarks of settlement: py-evm behind the methods of JSON-RPC.

Shell: entry point of eth-tester, which comes with the development packages only. Every transaction is a block
of its own; time moves when it is told to.
"""

from abc import abstractmethod
from ast import literal_eval
from typing import Any, cast

from swarm.ledger.settle.engine import Engine, EngineRefused

START_WEI = 1_000_000 * 10**18
"""Ether of each of the ten accounts with which the chain begins."""


class TimedEngine(Engine):
    """Chain that a test owns."""

    @abstractmethod
    def keep(self) -> object:
        """Return a mark to which ``restore`` goes back."""

    @abstractmethod
    def restore(self, mark: object) -> None:
        """Go back to a mark."""

    @abstractmethod
    def pass_time(self, seconds: int) -> None:
        """Let time pass on the chain."""

    @staticmethod
    def secret(number: int) -> bytes:
        """Return the key of a rich account, from 0 to 9."""
        return (number + 1).to_bytes(32, "big")


class TestEngine(TimedEngine):
    """Chain in memory with ten rich accounts, whose keys are the numbers from 1 to 10."""

    __test__ = False  # no class of tests

    def __init__(self) -> None:
        from eth_tester.backends.pyevm import main as backend  # noqa: PLC0415  not everywhere
        from eth_tester.main import EthereumTester  # noqa: PLC0415

        tester: Any = EthereumTester
        make: Any = backend.PyEVMBackend
        self._chain: Any = tester(make())

    def ask(self, method: str, *params: object) -> Any:  # noqa: ANN401  JSON of any shape
        """Return the result of a method."""
        from eth_tester.exceptions import TransactionFailed  # noqa: PLC0415
        from eth_utils.exceptions import ValidationError  # noqa: PLC0415

        try:
            return getattr(self, method)(*params)
        except TransactionFailed as error:
            raise EngineRefused("execution reverted", _returned(error)) from None
        except ValidationError as error:
            raise EngineRefused(str(error)) from None

    def keep(self) -> object:
        """Return a mark to which ``restore`` goes back."""
        return self._chain.take_snapshot()

    def restore(self, mark: object) -> None:
        """Go back to a mark."""
        self._chain.revert_to_snapshot(mark)

    def pass_time(self, seconds: int) -> None:
        """Let time pass on the chain."""
        now = self._chain.get_block_by_number("latest")["timestamp"]
        self._chain.time_travel(now + seconds)
        self._chain.mine_block()

    def eth_chainId(self) -> str:  # noqa: N802  the method's name
        """Return the number of the chain."""
        return hex(cast("int", self._chain.backend.chain.chain_id))

    def eth_call(self, call: dict[str, Any], _: str) -> str:
        """Return the result of a call."""
        return str(self._chain.call({"from": self._chain.get_accounts()[0], **_numbers(call)}))

    def eth_estimateGas(self, call: dict[str, Any]) -> str:  # noqa: N802
        """Return the gas that a transaction would take."""
        return hex(cast("int", self._chain.estimate_gas(_numbers(call))))

    def eth_gasPrice(self) -> str:  # noqa: N802
        """Return a price that the next block takes."""
        return hex(2 * 10**9)

    def eth_getBalance(self, address: str, _: str) -> str:  # noqa: N802
        """Return the wei of an account."""
        return hex(cast("int", self._chain.get_balance(address)))

    def eth_getTransactionCount(self, address: str, _: str) -> str:  # noqa: N802
        """Return the nonce of an account."""
        return hex(cast("int", self._chain.get_nonce(address)))

    def eth_getCode(self, address: str, _: str) -> str:  # noqa: N802
        """Return the code of an account."""
        return str(self._chain.get_code(address))

    def eth_sendRawTransaction(self, raw: str) -> str:  # noqa: N802
        """Put a transaction into a block of its own."""
        return str(self._chain.send_raw_transaction(raw))

    def eth_getTransactionReceipt(self, name: str) -> dict[str, object]:  # noqa: N802
        """Return the receipt of a transaction."""
        found = self._chain.get_transaction_receipt(name)
        made = found["contract_address"]
        return {
            "status": hex(found["status"]),
            "gasUsed": hex(found["gas_used"]),
            "contractAddress": made or None,
        }

    def eth_getBlockByNumber(self, which: str, _: bool) -> dict[str, object]:  # noqa: N802
        """Return what is asked of a block here: its time."""
        return {"timestamp": hex(self._chain.get_block_by_number(which)["timestamp"])}

    def eth_getLogs(self, wanted: dict[str, Any]) -> list[dict[str, object]]:  # noqa: N802
        """Return the events with these topics."""
        found = self._chain.get_logs(
            from_block=0, address=wanted["address"], topics=wanted["topics"]
        )
        return [{"data": log["data"]} for log in found]


def _returned(error: Exception) -> bytes:
    """Return what the code returned with a failure: eth-tester hides it in an argument, or in its text."""
    found: object = error.args[0] if error.args else b""
    if isinstance(found, Exception) and found.args:
        found = found.args[0]
    if isinstance(found, str) and found.startswith("b"):
        found = literal_eval(found)
    return found if isinstance(found, bytes) else b""


def _numbers(call: dict[str, Any]) -> dict[str, Any]:
    value = call.get("value")
    return {**call, "value": int(value, 16)} if isinstance(value, str) else call
