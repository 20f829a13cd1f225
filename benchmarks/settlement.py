"""Measure the gas of settlement: deploying the contract, posting a root, claiming.

Figures: gas of a post with the signatures of 5 of 7 validators, in a slot that was never used; gas of a first
claim out of 1,024 payouts, to an account that has ether.

``python -m benchmarks.settlement --rpc URL`` measures on a running anvil.
"""

import argparse
import json

from benchmarks.common import Outcome
from swarm.ledger.settle.contract import Key
from swarm.ledger.settle.plan import Claim
from swarm.testing.evm import TestEngine, TimedEngine
from tests.ledger.settle.settling import (
    BOND_WEI,
    WINDOW_S,
    AnvilEngine,
    Bridge,
    Leaf,
    leaf_claim,
)

VALIDATORS, SIGNERS, PAYOUTS, SLOTS = 7, 5, 1_024, 8
FIGURES = {"evm_post_gas": "post", "evm_claim_gas": "claim"}
NOT_INSTALLED = "needs eth-account and eth-tester: pip install 'swarm-train[dev]'"


def account(number: int) -> bytes:
    """Return an address of an account."""
    return (1 << 150 | number).to_bytes(20, "big")


def measure_gas(engine: TimedEngine) -> dict[str, int]:
    """Return the gas of each transaction, by name."""
    bridge = Bridge(engine, VALIDATORS)
    leaves: list[Leaf] = [(account(number), 1_000 + number) for number in range(PAYOUTS)]
    gas = {"deploy": bridge.deployed.gas}
    for epoch in range(SLOTS):
        gas["post"] = post(bridge, leaves, epoch)
    engine.pass_time(WINDOW_S + 1)
    gas["post_in_used_slot"] = post(bridge, leaves, SLOTS)
    last = (SLOTS - 1) % SLOTS
    gas["claim_to_new_account"] = claim(bridge, leaf_claim(last, leaves, 5))
    bridge.wallet.send(account(6), b"", 1)
    gas["claim"] = claim(bridge, leaf_claim(last, leaves, 6))
    more = [*leaves, (account(6), 9_999)]
    post(bridge, more, SLOTS + 1)
    engine.pass_time(WINDOW_S + 1)
    gas["claim_again"] = claim(bridge, leaf_claim(1, more, PAYOUTS))
    gas["release"] = bridge.contract.release(bridge.wallet, 1).gas
    gas["post_with_handover"] = post(bridge, more, SLOTS + 2, handover=True)
    return gas


def post(bridge: Bridge, leaves: list[Leaf], epoch: int, *, handover: bool = False) -> int:
    """Post a root; return the gas."""
    heirs = bridge.members[1:] if handover else ()
    posting = bridge.forged(leaves, epoch, range(SIGNERS), heirs=heirs)
    return bridge.contract.post(bridge.wallet, posting, BOND_WEI).gas


def claim(bridge: Bridge, leaf: Claim) -> int:
    """Claim a leaf; return the gas."""
    return bridge.contract.claim(bridge.wallet, leaf).gas


def measure_settlement(outcome: Outcome) -> dict[str, str]:
    """Add the figures to ``outcome``; return the reasons of those that cannot be measured here."""
    try:
        gas = measure_gas(TestEngine())
    except ImportError:
        outcome.figures |= dict.fromkeys(FIGURES)
        return dict.fromkeys(FIGURES, NOT_INSTALLED)
    outcome.figures |= {figure: gas[name] for figure, name in FIGURES.items()}
    outcome.detail["evm_gas"] = gas
    return {}


def main() -> None:
    """Print the gas on a running anvil."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rpc", required=True)
    keys = [Key(TimedEngine.secret(number)).address for number in range(10)]
    print(json.dumps(measure_gas(AnvilEngine(parser.parse_args().rpc, keys)), indent=1))


if __name__ == "__main__":
    main()
