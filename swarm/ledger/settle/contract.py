"""Talk to the contract: deploy it, read it, send transactions to it. Entry point of eth-account and eth-abi.

Shell: signs with a key that its caller holds, sends, waits for the receipt.

The engine is believed about its own chain: the price of gas within the caller's limit, receipts, storage. What
it shows is compared with the ledger by ``plan.py`` before anything is sent.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from swarm.errors import BadEncoding, SwarmError, Unreachable, UsageError, VerificationFailed
from swarm.ledger.payouts import address_text, members_digest
from swarm.ledger.settle.engine import Engine, EngineRefused, hex_bytes, hex_number
from swarm.ledger.settle.plan import (
    SLOTS,
    Claim,
    ContractState,
    Posting,
    pack_members,
    parse_head,
    parse_slot,
)
from swarm.ledger.state.payouts import SettlementMember, SettlementTarget
from swarm.types import Digest

PIP_LINE = "pip install 'swarm-train[evm]'"
RECEIPT_WAIT_S = 300.0
RECEIPT_POLL_S = 1.0
GAS_MARGIN_PERCENT = 20
GAS_MIN = 21_000
GAS_MAX = 4_000_000
"""Most gas of one transaction: a hostile engine's estimate costs no more."""

GWEI = 10**9
_REASONS = {
    "Bond": "the bond is another amount",
    "Epoch": "a root of this epoch or a later one is posted",
    "Full": "eight roots wait for their challenge window to end",
    "NoBond": "there is no bond to give back yet",
    "Same": "that is the root that was posted",
    "Consistent": "a log may have both leaves",
    "Window": "its root can still be proved wrong",
    "NothingDue": "all of it is claimed",
    "Funds": "the contract has not enough funds",
    "Members": "the next signers are out of order",
    "Signers": "these are not the signers that the contract has",
    "Signature": "a signature does not hold",
    "Quorum": "not more than two thirds of the power has signed",
    "Proof": "the leaf is not under the root",
    "Closed": "the root is final, or was refuted",
}
"""Errors of the contract, as people read them."""


@cache
def _library() -> Any:  # noqa: ANN401  modules of the extra, which may not be installed
    """Return (eth_account.Account, eth_abi, eth_utils.keccak); raise ``UsageError`` without the extra."""
    try:
        import eth_abi  # noqa: PLC0415  an extra
        from eth_account import Account  # noqa: PLC0415
        from eth_utils.crypto import keccak  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "settlement needs packages that are not installed", hint=PIP_LINE
        ) from None
    return Account, eth_abi, keccak


@cache
def _artifact() -> dict[str, Any]:
    text = files("swarm.ledger.settle").joinpath("Settlement.json").read_text("utf-8")
    return dict(json.loads(text))


def runtime_code() -> bytes:
    """Return the contract's code, without the terms that its constructor appends."""
    return hex_bytes(_artifact()["runtime"])


class Key:
    """A secp256k1 key, for as long as a command runs."""

    def __init__(self, secret: bytes) -> None:
        account, _, _ = _library()
        try:
            self._account = account.from_key(secret)
        except ValueError:
            raise UsageError("that is no secp256k1 key") from None
        self.address = bytes.fromhex(self._account.address[2:])

    def sign_digest(self, digest: Digest) -> bytes:
        """Return the recoverable signature of a digest: r, s, recovery id."""
        signed = self._account.unsafe_sign_hash(bytes(digest))
        parts = (signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))
        return b"".join(parts) + bytes([signed.v - 27])

    def sign_transaction(self, fields: dict[str, object]) -> bytes:
        """Return an encoded, signed transaction."""
        return bytes(self._account.sign_transaction(fields).raw_transaction)


def parse_key(text: str) -> Key:
    """Return the key of 64 hexadecimal digits, with or without ``0x``; raise ``UsageError`` otherwise."""
    digits = text.strip().removeprefix("0x")
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise UsageError("a key file holds one secp256k1 key: 64 hexadecimal digits")
    return Key(secret)


def recover(digest: Digest, signature: bytes) -> bytes | None:
    """Return the address whose key made a signature of 65 bytes; None if it is none."""
    account, _, _ = _library()
    from eth_keys.exceptions import BadSignature  # noqa: PLC0415  an extra
    from eth_utils.exceptions import ValidationError  # noqa: PLC0415

    vrs = (
        signature[64] + 27,
        int.from_bytes(signature[:32], "big"),
        int.from_bytes(signature[32:64], "big"),
    )
    try:
        text = account._recover_hash(bytes(digest), vrs=vrs)
    except (BadSignature, ValidationError, ValueError):
        return None
    return bytes.fromhex(text[2:])


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction that is in a block."""

    name: str
    """Hash of the transaction, as text."""
    gas: int
    contract: bytes
    """Address of the contract that it made; empty otherwise."""


class Wallet:
    """Sender of transactions: a key, an engine, and what may be paid for gas."""

    def __init__(self, engine: Engine, key: Key, gas_price_max: int) -> None:
        self._engine, self._key, self._price_max = engine, key, gas_price_max
        self.address = key.address

    def send(self, to: bytes, data: bytes, value: int = 0) -> Receipt:
        """Send a transaction and wait until it is in a block.

        Raises:
            EngineRefused: It would fail, with the contract's reason.
            UsageError: The key has too little ether, or gas costs more than allowed.
            Unreachable: It was in no block for ``RECEIPT_WAIT_S``.
        """
        ask, sender = self._engine.ask, address_text(self._key.address)
        call: dict[str, object] = {"from": sender, "data": "0x" + data.hex(), "value": hex(value)}
        if to:
            call["to"] = address_text(to)
        price = 2 * hex_number(ask("eth_gasPrice"))
        if price > 2 * self._price_max:
            raise UsageError(
                f"gas costs {price // 2 / GWEI:.2f} gwei now, and at most {self._price_max / GWEI:.2f} is"
                " allowed",
                hint="--gas-price-max GWEI",
            )
        balance = hex_number(ask("eth_getBalance", sender, "latest"))
        _check_balance(sender, balance, value + GAS_MIN * price)
        gas = _told(lambda: hex_number(ask("eth_estimateGas", call)))
        gas = min(gas + gas * GAS_MARGIN_PERCENT // 100, GAS_MAX)
        _check_balance(sender, balance, value + gas * price)
        fields: dict[str, object] = {
            "chainId": hex_number(ask("eth_chainId")),
            "nonce": hex_number(ask("eth_getTransactionCount", sender, "pending")),
            "gas": gas,
            "maxFeePerGas": price,
            "maxPriorityFeePerGas": min(price, GWEI),
            "value": value,
            "data": data,
            "type": 2,
        }
        if to:
            fields["to"] = to
        raw = self._key.sign_transaction(fields)
        return self._wait(str(ask("eth_sendRawTransaction", "0x" + raw.hex())))

    def _wait(self, name: str) -> Receipt:
        deadline = time.monotonic() + RECEIPT_WAIT_S
        while (found := self._engine.ask("eth_getTransactionReceipt", name)) is None:
            if time.monotonic() > deadline:
                raise Unreachable(f"transaction {name} is in no block yet")
            time.sleep(RECEIPT_POLL_S)
        if not isinstance(found, dict) or hex_number(found.get("status")) != 1:
            raise EngineRefused(f"transaction {name} failed")
        made = found.get("contractAddress")
        return Receipt(name, hex_number(found["gasUsed"]), hex_bytes(made) if made else b"")


def _check_balance(sender: str, balance: int, needed: int) -> None:
    if balance < needed:
        raise UsageError(f"{sender} has {balance} wei, and may need {needed} for value and gas")


def _told(ask: Callable[[], int]) -> int:
    """Name the contract's own error where it gave one."""
    try:
        return ask()
    except EngineRefused as refused:
        reason = error_text(refused.data)
        raise (EngineRefused(reason) if reason else refused) from None


def error_text(data: bytes) -> str:
    """Return the contract's reason in the data of a refusal; empty if it gave none."""
    _, _, keccak = _library()
    named = {keccak(text=f"{name}()")[:4]: text for name, text in _REASONS.items()}
    return named.get(data[:4], "")


class Contract:
    """The contract on one engine."""

    def __init__(self, engine: Engine, target: SettlementTarget) -> None:
        """Raise ``UsageError`` if the engine is of another chain, or has no such contract."""
        self._engine, self.target = engine, target
        chain = hex_number(engine.ask("eth_chainId"))
        if chain != target.evm_chain:
            raise UsageError(
                f"this engine is of chain {chain}, and the contract is on chain {target.evm_chain}",
                hint="--rpc URL of that chain",
            )
        code = hex_bytes(engine.ask("eth_getCode", address_text(target.contract), "latest"))
        if not code.startswith(runtime_code()):
            raise VerificationFailed(
                f"{address_text(target.contract)} is not the settlement contract of this version"
            )

    def read(self) -> ContractState:
        """Return the state of the contract."""
        head = parse_head(self._number("head()"))
        posted = (self._words("posted(uint256)", 2, index) for index in range(SLOTS))
        slots = tuple(
            parse_slot(index, root, int.from_bytes(noted, "big"))
            for index, (root, noted) in enumerate(posted)
        )
        ledger, *terms = self._words("terms()", 4)
        window_s, bond_wei, unit_wei = (int.from_bytes(term, "big") for term in terms)
        block = self._engine.ask("eth_getBlockByNumber", "latest", False)
        where = address_text(self.target.contract)
        return ContractState(
            target=self.target,
            ledger=Digest(ledger),
            window_s=window_s,
            bond_wei=bond_wei,
            unit_wei=unit_wei,
            next_epoch=head[0],
            era=head[1],
            num_bonds=head[2],
            members=Digest(self._words("sets(uint256)", 1, head[1])[0]),
            slots=slots,
            balance_wei=hex_number(self._engine.ask("eth_getBalance", where, "latest")),
            now_s=hex_number(block.get("timestamp") if isinstance(block, dict) else None),
        )

    def claimed(self, address: bytes) -> int:
        """Return the units that were paid to an address."""
        return self._number("claimed(address)", address_text(address))

    def announced(self, era: int) -> bytes:
        """Return the list of signers that the contract announced when an era began."""
        _, abi, keccak = _library()
        topic = keccak(text="Rotated(uint256,bytes)")
        wanted = {
            "address": address_text(self.target.contract),
            "fromBlock": "0x0",
            "toBlock": "latest",
            "topics": ["0x" + topic.hex(), "0x" + era.to_bytes(32, "big").hex()],
        }
        logs = self._engine.ask("eth_getLogs", wanted)
        if not isinstance(logs, list) or not logs or not isinstance(logs[-1], dict):
            raise Unreachable("the engine does not show who the present signers are")
        return bytes(_decoded(abi, "bytes", hex_bytes(logs[-1].get("data"))))

    def post(self, wallet: Wallet, posting: Posting, bond_wei: int) -> Receipt:
        """Post a root, with a bond."""
        data = encode_call(
            "post(uint256,uint256,bytes32,bytes,bytes,bytes)",
            posting.slot,
            posting.statement.epoch,
            bytes(posting.statement.root),
            pack_members(posting.members),
            pack_members(posting.heirs),
            posting.votes,
        )
        return wallet.send(self.target.contract, data, bond_wei)

    def claim(self, wallet: Wallet, claim: Claim) -> Receipt:
        """Have the contract pay a claim."""
        return wallet.send(self.target.contract, encode_call(f"claim({LEAF})", leaf_fields(claim)))

    def release(self, wallet: Wallet, slot: int) -> Receipt:
        """Have the contract give back the bond of a root."""
        return wallet.send(self.target.contract, encode_call("release(uint256)", slot))

    def challenge(self, wallet: Wallet, posting: Posting) -> Receipt:
        """Refute the root in the slot of ``posting`` by the quorum for that other root."""
        data = encode_call(
            "challenge_signatures(uint256,bytes32,bytes32,bytes,bytes)",
            posting.slot,
            bytes(posting.statement.root),
            bytes(members_digest(posting.statement.members)),
            pack_members(posting.members),
            posting.votes,
        )
        return wallet.send(self.target.contract, data)

    def _number(self, signature: str, *arguments: object) -> int:
        return int.from_bytes(self._words(signature, 1, *arguments)[0], "big")

    def _words(self, signature: str, count: int, *arguments: object) -> list[bytes]:
        """Return so many words of 32 bytes that a getter gives."""
        where, data = address_text(self.target.contract), encode_call(signature, *arguments)
        found = self._engine.ask("eth_call", {"to": where, "data": "0x" + data.hex()}, "latest")
        reply = hex_bytes(found)
        if len(reply) < 32 * count:
            raise BadEncoding("an engine's answer that is cut")
        return [reply[at : at + 32] for at in range(0, 32 * count, 32)]


LEAF = "(uint256,uint256,uint256,address,uint256,bytes32[])"


def leaf_fields(claim: Claim) -> tuple[object, ...]:
    """Return a leaf as the contract takes it."""
    path = list(claim.proof)
    address = address_text(claim.address)
    return claim.slot, claim.count, claim.index, address, claim.total, path


def encode_call(signature: str, *arguments: object) -> bytes:
    """Return the call of a method, such as ``release(uint256)``."""
    _, abi, keccak = _library()
    types = _split_types(signature[signature.index("(") + 1 : -1])
    return bytes(keccak(text=signature)[:4] + abi.encode(types, arguments))


def _split_types(text: str) -> list[str]:
    """Return the types in a list of them; a tuple is one."""
    found, depth = [""], 0
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and not depth:
            found.append("")
        else:
            found[-1] += char
    return found if text else []


def _decoded(abi: Any, kind: str, data: bytes) -> Any:  # noqa: ANN401  a module, and any value
    from eth_abi.exceptions import DecodingError  # noqa: PLC0415  an extra

    try:
        return abi.decode([kind], data)[0]
    except DecodingError:
        raise BadEncoding("an engine's answer that cannot be decoded") from None


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms that a contract is deployed with, for good."""

    window_s: int
    bond_wei: int
    unit_wei: int


def deploy(
    wallet: Wallet, ledger: Digest, members: Sequence[SettlementMember], terms: Terms
) -> Receipt:
    """Deploy the contract of a ledger, with its first signers."""
    _, abi, _ = _library()
    types = ["bytes32", "bytes", "uint256", "uint256", "uint256"]
    values = (bytes(ledger), pack_members(members), terms.window_s, terms.bond_wei, terms.unit_wei)
    data = hex_bytes(_artifact()["bytecode"]) + bytes(abi.encode(types, values))
    receipt = wallet.send(b"", data)
    if not receipt.contract:
        raise SwarmError("the engine made no contract")
    return receipt
