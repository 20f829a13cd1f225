"""Show settlement outside: what the ledger has stated, what the contract holds, what an address may claim.

Core: a final state and the contract's state in, rows and lines out.
"""

from swarm.ledger.payouts import address_text, find_log
from swarm.ledger.settle.plan import ContractState, kept_statements
from swarm.ledger.state.state import State
from swarm.primitives.codec import Document
from swarm.types import NO_DIGEST

WEI = 10**18


class StatementRow(Document, frozen=True):
    """Payouts at the end of an epoch."""

    epoch: int
    payouts: int
    root: str
    signers: int
    """Addresses that sign the next one."""
    signatures: int
    """Signatures that were posted, not checked."""


class SettlementRow(Document, frozen=True):
    """Settlement as the ledger has it."""

    height: int
    evm_chain: int
    """Chain of the contract; 0 where there is none."""
    contract: str
    payouts: int
    locked: int
    statements: tuple[StatementRow, ...]


class SlotRow(Document, frozen=True):
    """A root that was posted."""

    slot: int
    epoch: int
    root: str
    wait_s: int
    """Seconds until it can be claimed from."""
    poster: str
    has_bond: bool


class ContractRow(Document, frozen=True):
    """Settlement as the contract has it."""

    era: int
    window_s: int
    bond_wei: int
    unit_wei: int
    """Wei that a unit of the ledger is paid with."""
    funds_wei: int
    slots: tuple[SlotRow, ...]


def settlement_row(state: State) -> SettlementRow:
    """Return what the ledger has stated."""
    log = find_log(state)
    if log is None:
        return SettlementRow(
            height=state.height, evm_chain=0, contract="", payouts=0, locked=0, statements=()
        )
    return SettlementRow(
        height=state.height,
        evm_chain=log.target.evm_chain,
        contract=address_text(log.target.contract),
        payouts=log.count,
        locked=log.locked,
        statements=tuple(
            StatementRow(
                epoch=one.epoch,
                payouts=one.count,
                root=one.root.hex(),
                signers=len(one.members),
                signatures=len(one.signatures),
            )
            for one in kept_statements(state)
        ),
    )


def settlement_lines(row: SettlementRow) -> list[str]:
    """Return that as text."""
    if not row.contract:
        return [
            "this network settles on no contract",
            "its validators agree on one: swarm settlement register --key FILE",
        ]
    lines = [
        f"contract  {row.contract} on chain {row.evm_chain}",
        f"payouts   {row.payouts:,}, {row.locked:,} units locked for them",
    ]
    return lines + [
        f"epoch {one.epoch}: {one.payouts:,} payouts, {one.signatures} signatures,"
        f" {one.signers} signers of the next"
        for one in row.statements
    ]


def contract_row(view: ContractState) -> ContractRow:
    """Return what the contract holds."""
    return ContractRow(
        era=view.era,
        window_s=view.window_s,
        bond_wei=view.bond_wei,
        unit_wei=view.unit_wei,
        funds_wei=view.funds_wei,
        slots=tuple(
            SlotRow(
                slot=slot.index,
                epoch=slot.epoch,
                root=slot.root.hex(),
                wait_s=view.wait_s(slot),
                poster=address_text(slot.poster),
                has_bond=slot.is_held,
            )
            for slot in view.slots
            if slot.root != NO_DIGEST
        ),
    )


def contract_lines(row: ContractRow) -> list[str]:
    """Return that as text."""
    lines = [
        f"funds     {ether(row.funds_wei)}, {row.unit_wei:,} wei for a unit; era {row.era}",
        f"posting   a bond of {ether(row.bond_wei)}, back after {row.window_s:,} s",
    ]
    for slot in row.slots:
        when = f"can be claimed from in {slot.wait_s:,} s" if slot.wait_s else "can be claimed from"
        bond = ", bond held" if slot.has_bond else ""
        lines.append(f"slot {slot.slot}    epoch {slot.epoch}: {when}{bond}")
    return lines


def ether(wei: int) -> str:
    """Return an amount of ether as text, exact to a wei: ``1.5 ETH``."""
    whole, rest = divmod(wei, WEI)
    return f"{whole}{f'.{rest:018d}'.rstrip('0') if rest else ''} ETH"
