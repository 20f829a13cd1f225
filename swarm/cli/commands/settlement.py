"""Settle payouts outside, by the contract on an existing engine: deploy, register, sign, post, claim.

Shell: reads the ledger of this home, asks its node to sign statements, sends transactions by ``--rpc``. A key
is read from the file that its owner names, used, and forgotten.
"""

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.commands.control import TIMEOUT_S
from swarm.cli.terminal import Terminal, terminal
from swarm.errors import (
    BadConfig,
    BadEncoding,
    BadIdentity,
    InvalidStatement,
    SwarmError,
    Unreachable,
    UsageError,
)

if TYPE_CHECKING:
    from swarm.ledger.settle.contract import Contract, Key, Wallet
    from swarm.ledger.settle.engine import Engine
    from swarm.ledger.state.payouts import PayoutLog, PayoutSignature, SettlementTarget
    from swarm.ledger.state.state import State
    from swarm.types import PeerId

KEY_FILE_BYTES_MAX = 4_096
WATCH_S = 30.0
GWEI = 10**9

settlement_app = typer.Typer(
    help="Payouts outside, by a contract: show, deploy, register, sign, challenge.",
    no_args_is_help=True,
)
RpcOption = Annotated[str, typer.Option("--rpc", metavar="URL", help="The engine's JSON-RPC.")]
KeyOption = Annotated[
    str,
    typer.Option(
        "--key", metavar="FILE", help="A file with a secp256k1 key in hex; never stored here."
    ),
]
PriceOption = Annotated[
    int, typer.Option("--gas-price-max", metavar="GWEI", help="The most that gas may cost.", min=1)
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(settlement_app, name="settlement")


@settlement_app.command("show")
def show(rpc: RpcOption = "") -> None:
    """Show what the ledger has stated; with --rpc what the contract holds, compared with that."""
    from swarm.cli.commands.settlement_views import (
        contract_lines,
        contract_row,
        settlement_lines,
        settlement_row,
    )
    from swarm.ledger.reader import read_state
    from swarm.ledger.settle.contract import recover
    from swarm.ledger.settle.plan import check_roots, unproved_keys
    from swarm.primitives.codec import fields_of
    from swarm.primitives.crypto import peer_name

    screen = terminal()
    state = read_state(screen.home)
    row = settlement_row(state)
    document, lines = dict(fields_of(row)), settlement_lines(row)
    if rpc:
        view = open_contract(state, rpc).read()
        check_roots(state, view)
        outside = contract_row(view)
        unproved = [peer_name(peer) for peer in unproved_keys(state, recover)]
        document |= {"on_chain": fields_of(outside), "unproved_keys": unproved}
        lines += contract_lines(outside)
        lines += [f"{name} has registered a key and not shown that it has it" for name in unproved]
    screen.data(document, lines)


@settlement_app.command("deploy")
def deploy(
    rpc: RpcOption,
    key: KeyOption,
    unit_wei: Annotated[
        int, typer.Option(help="Wei that a unit of the ledger is paid with.", min=1)
    ],
    window: Annotated[
        int, typer.Option(help="Seconds in which a root can be proved wrong.", min=60, max=1 << 31)
    ] = 86_400,
    bond_wei: Annotated[int, typer.Option(help="Wei that a poster puts up.", min=0)] = 10**16,
    gas_price_max: PriceOption = 100,
) -> None:
    """Deploy the contract of this network; more than two thirds of its validators must have registered a key.

    The terms are for good, and so is the contract once validators have agreed on it. Asks first; --yes answers.
    """
    from swarm.ledger.payouts import address_text, find_log
    from swarm.ledger.reader import read_state
    from swarm.ledger.settle.contract import Terms
    from swarm.ledger.settle.contract import deploy as send
    from swarm.ledger.settle.engine import hex_number
    from swarm.ledger.transition.settlement import settlement_members

    screen = terminal()
    state = read_state(screen.home)
    if find_log(state) is not None:
        raise UsageError("this network has its contract", hint="swarm settlement show")
    members = settlement_members(state, None)
    if not members:
        raise UsageError(
            "not more than two thirds of the validators' power has registered a key",
            hint="swarm settlement register --key FILE",
        )
    wallet, engine = open_wallet(rpc, key, gas_price_max)
    if not screen.confirms(
        f"Deploy a contract with {len(members)} signers, {unit_wei:,} wei for a unit?",
        f"swarm settlement deploy --rpc {rpc} --key {key} --unit-wei {unit_wei} --yes{screen.same_home}",
    ):
        raise SwarmError("nothing was deployed", hint="swarm settlement show")
    with screen.patient("waiting for the engine"):
        receipt = send(wallet, state.chain, members, Terms(window, bond_wei, unit_wei))
    chain, contract = hex_number(engine.ask("eth_chainId")), address_text(receipt.contract)
    screen.data(
        {"contract": contract, "evm_chain": chain, "transaction": receipt.name, "gas": receipt.gas},
        [
            f"contract {contract} on chain {chain}, for {receipt.gas:,} gas",
            "each validator agrees to it: swarm settlement register --key FILE"
            f" --contract {contract} --rpc URL",
            f"anybody funds it: send ether to {contract}",
        ],
    )


@settlement_app.command("register")
def register_key(
    key: KeyOption,
    contract: Annotated[
        str,
        typer.Option(metavar="0x...", help="The contract to agree to; without one, the key alone."),
    ] = "",
    rpc: RpcOption = "",
) -> None:
    """Register this validator's settlement key; with --contract and --rpc agree to a contract, for good."""
    from swarm.ledger.payouts import address_text, key_digest
    from swarm.ledger.reader import read_state

    screen = terminal()
    state, signer = read_state(screen.home), read_key(key)
    target = None
    if contract:
        if not rpc:
            raise UsageError("to agree to a contract is to have looked at it", hint="--rpc URL")
        target = checked_target(state, rpc, given_address(contract))
    peer = own_peer(screen)
    proof = signer.sign_digest(key_digest(state.chain, peer, signer.address))
    done = ask_own_node(
        screen,
        "settlement-register",
        {
            "address": signer.address.hex(),
            "proof": proof.hex(),
            "evm_chain": target.evm_chain if target else 0,
            "contract": target.contract.hex() if target else "",
        },
    )
    row = {**done, "address": address_text(signer.address)}
    screen.data(row, [str(done["text"])])


@settlement_app.command("sign")
def sign(
    key: KeyOption,
    watch: Annotated[bool, typer.Option(help="Go on: sign what each epoch ends with.")] = False,
) -> None:
    """Sign all kept statements that this validator has not signed yet. Its node posts the signatures."""
    screen, signer = terminal(), read_key(key)
    while True:
        epochs = sign_open(screen, signer) if not watch else sign_patiently(screen, signer)
        signed = ", ".join(map(str, epochs)) or "none"
        if epochs or not watch:
            screen.data({"epochs": epochs}, [f"signed the payouts of epochs: {signed}"])
        if not watch:
            return
        time.sleep(WATCH_S)


def sign_patiently(screen: Terminal, signer: "Key") -> list[int]:
    """Sign as ``sign_open`` does; where the node is away, say so and sign nothing now."""
    try:
        return sign_open(screen, signer)
    except Unreachable as error:
        screen.say(f"{error}; trying again")
        return []


def sign_open(screen: Terminal, signer: "Key") -> list[int]:
    """Sign every kept statement that this home's peer has not signed; return their epochs."""
    from swarm.ledger.payouts import find_key, statement_digest
    from swarm.ledger.reader import read_state
    from swarm.ledger.settle.plan import kept_statements

    state, peer = read_state(screen.home), own_peer(screen)
    log, registered = settlement_of(state), find_key(state, peer)
    signers = {m.address for one in kept_statements(state) for m in one.members}
    own = registered.address if registered is not None else b""
    if signer.address != own and signer.address not in signers:
        raise UsageError(
            "this key is not the one that this validator has registered",
            hint="swarm settlement register --key FILE",
        )
    done = list[int]()
    for statement in reversed(kept_statements(state)):
        signature = signer.sign_digest(statement_digest(state.chain, log.target, statement))
        has_signed = any(one.signature == signature for one in statement.signatures)
        if signer.address in signers and not has_signed:
            body = {"epoch": statement.epoch, "signature": signature.hex()}
            ask_own_node(screen, "settlement-sign", body)
            done.append(statement.epoch)
    return done


@settlement_app.command("challenge")
def challenge(rpc: RpcOption, key: KeyOption, gas_price_max: PriceOption = 100) -> None:
    """Refute roots that are not this ledger's, where validators have signed this ledger's, too.

    Whoever refutes a root gets its poster's bond.
    """
    from swarm.ledger.reader import read_state
    from swarm.ledger.settle.contract import recover
    from swarm.ledger.settle.plan import plan_challenges

    screen = terminal()
    state = read_state(screen.home)
    contract = open_contract(state, rpc)
    view = contract.read()
    plans = plan_challenges(state, view, contract.announced, recover)
    wallet, _ = open_wallet(rpc, key, gas_price_max)
    with screen.patient("waiting for the engine"):
        receipts = [contract.challenge(wallet, plan) for plan in plans]
    rows = [
        {"slot": plan.slot, "epoch": plan.statement.epoch, "transaction": r.name, "gas": r.gas}
        for plan, r in zip(plans, receipts, strict=True)
    ]
    screen.data(
        rows, [f"refuted the root of epoch {row['epoch']} in slot {row['slot']}" for row in rows]
    )


def settle(rpc: RpcOption, key: KeyOption, gas_price_max: PriceOption = 100) -> None:
    """Post the newest payouts that enough validators have signed, with a bond; get earlier bonds back.

    The key pays gas and bond, and may be anybody's. The bond is back after the challenge window.
    """
    from swarm.ledger.reader import read_state
    from swarm.ledger.settle.contract import recover
    from swarm.ledger.settle.plan import NothingToDo, check_roots, plan_posting, present_members

    screen = terminal()
    state = read_state(screen.home)
    contract = open_contract(state, rpc)
    view = contract.read()
    check_roots(state, view)
    wallet, _ = open_wallet(rpc, key, gas_price_max)
    bonds = [
        s for s in view.slots if s.is_held and s.poster == wallet.address and not view.wait_s(s)
    ]
    lines, row = list[str](), dict[str, object]()
    with screen.patient("waiting for the engine"):
        members = present_members(state, view, lambda: contract.announced(view.era))
        try:
            posting, broken = plan_posting(state, view, members, recover)
        except NothingToDo:
            if not bonds:
                raise
        else:
            receipt = contract.post(wallet, posting, view.bond_wei)
            row |= {
                "epoch": posting.statement.epoch,
                "payouts": posting.statement.count,
                "slot": posting.slot,
                "signed_percent": 100 * posting.signed // posting.power,
                "handed_over": bool(posting.heirs),
                "transaction": receipt.name,
                "gas": receipt.gas,
                "broken_signatures": broken_names(broken),
            }
            lines.append(
                f"posted {posting.statement.count:,} payouts of epoch {posting.statement.epoch}"
                f" for {receipt.gas:,} gas; they can be claimed in {view.window_s:,} s"
            )
            lines += [f"a signature of {name} does not hold" for name in broken_names(broken)]
            bonds = [slot for slot in bonds if slot.index != posting.slot]
        released = [contract.release(wallet, slot.index) for slot in bonds]
    row["bonds_back"] = [slot.index for slot in bonds]
    lines += [
        f"the bond of slot {slot.index} is back, for {receipt.gas:,} gas"
        for slot, receipt in zip(bonds, released, strict=True)
    ]
    screen.data(row, lines)


def claim(
    rpc: RpcOption,
    key: KeyOption,
    to: Annotated[
        str,
        typer.Option(metavar="0x...", help="Whose claim; without it, that of the key's address."),
    ] = "",
    gas_price_max: PriceOption = 100,
) -> None:
    """Have the contract pay what was withdrawn to an address. The key pays the gas, and may be anybody's."""
    from swarm.cli.commands.settlement_views import ether
    from swarm.ledger.payouts import address_text
    from swarm.ledger.reader import read_state
    from swarm.ledger.settle.plan import plan_claim

    screen = terminal()
    state = read_state(screen.home)
    contract = open_contract(state, rpc)
    wallet, _ = open_wallet(rpc, key, gas_price_max)
    address = given_address(to) if to else wallet.address
    with screen.patient("waiting for the engine"):
        view = contract.read()
        plan = plan_claim(state, view, address, contract.claimed(address))
        receipt = contract.claim(wallet, plan)
    paid = plan.due * view.unit_wei
    screen.data(
        {
            "address": address_text(address),
            "units": plan.due,
            "wei": paid,
            "transaction": receipt.name,
            "gas": receipt.gas,
        },
        [
            f"paid {plan.due:,} units, {ether(paid)}, to {address_text(address)} for {receipt.gas:,} gas"
        ],
    )


def withdraw(screen: Terminal, amount: int, to: str) -> None:
    """Have this home's node withdraw an amount; asks first."""
    given_address(to)
    command = f"swarm wallet withdraw {amount} --to {to} --yes{screen.same_home}"
    question = f"Lock {amount:,} here for good, to be paid out to {to} by the contract?"
    if not screen.confirms(question, command):
        raise SwarmError("nothing was withdrawn", hint="swarm wallet show")
    done = ask_own_node(screen, "wallet-withdraw", {"amount": amount, "to": to})
    lines = [
        str(done["text"]),
        "the contract pays it once validators have signed this epoch's payouts",
    ]
    screen.data(done, lines)


def engine_at(rpc: str) -> "Engine":
    """Return the engine behind a URL."""
    from swarm.ledger.settle.rpc import HttpEngine

    return HttpEngine(rpc)


def open_contract(state: "State", rpc: str) -> "Contract":
    """Return the contract of this network on the engine behind a URL."""
    from swarm.ledger.settle.contract import Contract

    return Contract(engine_at(rpc), settlement_of(state).target)


def checked_target(state: "State", rpc: str, contract: bytes) -> "SettlementTarget":
    """Return the contract that an engine has, if it is of this ledger and its validators."""
    from swarm.errors import VerificationFailed
    from swarm.ledger.payouts import members_digest
    from swarm.ledger.settle.contract import Contract
    from swarm.ledger.settle.engine import hex_number
    from swarm.ledger.state.payouts import SettlementTarget
    from swarm.ledger.transition.settlement import settlement_members

    engine = engine_at(rpc)
    target = SettlementTarget(hex_number(engine.ask("eth_chainId")), contract)
    view = Contract(engine, target).read()
    if view.ledger != state.chain:
        raise VerificationFailed("that contract is of another network")
    if view.era == 0 and view.members != members_digest(settlement_members(state, None)):
        raise VerificationFailed(
            "the contract has other signers than this network has now",
            hint="look again in this epoch, or deploy another: swarm settlement deploy",
        )
    return target


def open_wallet(rpc: str, key: str, gas_price_max: int) -> "tuple[Wallet, Engine]":
    """Return a sender of transactions."""
    from swarm.ledger.settle.contract import Wallet

    engine = engine_at(rpc)
    return Wallet(engine, read_key(key), gas_price_max * GWEI), engine


def given_address(text: str) -> bytes:
    """Return the address that a person typed; raise ``UsageError`` if it is none."""
    from swarm.ledger.payouts import parse_address

    try:
        return parse_address(text)
    except BadEncoding as error:
        raise UsageError(str(error)) from None


def read_key(file: str) -> "Key":
    """Return the key in a file that nobody else may read; raises ``BadConfig`` or ``BadIdentity``."""
    from swarm.host.identity import keeps_modes
    from swarm.ledger.settle.contract import parse_key

    path = Path(file).expanduser()
    try:
        with path.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            data = opened.read(KEY_FILE_BYTES_MAX)
    except OSError as error:
        raise BadConfig(
            f"no key can be read from {file}: {error.strerror}", hint="--key FILE"
        ) from None
    if mode & 0o077:
        if not keeps_modes(path.absolute().parent):
            raise BadIdentity(
                f"{file} is on a disk that keeps no modes, where every user can read it",
                hint=f"cp {file} to a disk of Linux, chmod 600, and --key with that",
            )
        raise BadIdentity(f"{file} can be read by other users", hint=f"chmod 600 {file}")
    return parse_key(data.decode("ascii", "replace"))


def own_peer(screen: Terminal) -> "PeerId":
    """Return the peer of this home."""
    from swarm.host.identity import load_identity

    return load_identity(screen.home).peer


def ask_own_node(screen: Terminal, action: str, body: Mapping[str, object]) -> dict[str, object]:
    """Have this home's node perform an action; return what it says."""
    from swarm.cli.client import act, node_of

    return dict(act(node_of(screen.home), action, body, TIMEOUT_S))


def broken_names(broken: "list[PayoutSignature]") -> list[str]:
    """Return the names of those whose signatures do not hold."""
    from swarm.primitives.crypto import peer_name

    return sorted({peer_name(one.peer) for one in broken})


def settlement_of(state: "State") -> "PayoutLog":
    """Return the log of payouts; raise ``UsageError`` where there is none."""
    from swarm.ledger.settle.plan import settlement_log

    try:
        return settlement_log(state)
    except InvalidStatement as error:
        why = str(error).removeprefix(f"{error.reason.value}: ")
        raise UsageError(why, hint="swarm settlement show") from None
