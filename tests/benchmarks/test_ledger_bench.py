"""The bench of the ledger measures what its figures are called, and every figure has a place."""

from pathlib import Path

from benchmarks.common import Outcome
from benchmarks.ledger import (
    QUICK,
    apply_transfers,
    empty_chain,
    measure_proofs,
    measure_seats,
)
from benchmarks.ledger_followers import measure_followers
from benchmarks.ledger_founder import lose_founder
from benchmarks.ledger_join import LongChain, join_chain, long_chain
from benchmarks.ledger_loop import measure_loop
from benchmarks.ledger_network import follow_chain, simulate_hops, vote_over_sockets
from benchmarks.ledger_traffic import traffic_table
from benchmarks.settlement import measure_settlement
from swarm.ledger.chain import verify_chain
from swarm.primitives.codec import encode
from swarm.testing.ledger import InMemoryLedger


def a_long_chain(epochs: int = 9, *, changes: bool = True) -> LongChain:
    ledger = InMemoryLedger(6, 4, epoch_blocks=10)
    return long_chain(
        ledger.state, ledger.genesis, epochs=epochs, changes=changes, blocks=4, keys=20
    )


FIGURES = Path(__file__).parents[2] / "docs" / "spec" / "figures.md"


def test_without_faults_a_block_takes_two_message_delays_and_finality_three() -> None:
    assert simulate_hops(30) == {"finality_hops": 3.0, "block_hops": 2.0}


async def test_the_cost_of_a_snapshot_grows_with_the_changes_of_validators_and_not_with_the_blocks(
    tmp_path: Path,
) -> None:
    costs = list[int]()
    for number, chain in enumerate(
        (a_long_chain(10), a_long_chain(40), a_long_chain(40, changes=False))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        costs.append((await join_chain(folder, chain))[1])
    few, many, same = costs
    handoff = len(encode(a_long_chain().handoffs[0]))
    assert 25 * handoff < many - few < 35 * handoff
    assert same < few


async def test_every_figure_is_measured_or_says_why_not(tmp_path: Path) -> None:
    (row,) = [
        line for line in FIGURES.read_text("utf-8").splitlines() if line.startswith("| ledger |")
    ]
    outcome, (ledger, links) = Outcome(), empty_chain(30)
    assert verify_chain(ledger.genesis, links).head.state.height == 30
    assert await follow_chain(tmp_path, (ledger, links)) > 0
    assert await apply_transfers(tmp_path, QUICK) > 100
    outcome.figures |= (await vote_over_sockets(tmp_path, 5, 3)).figures
    looped = await measure_loop(tmp_path / "loop", *QUICK.loop)
    assert int(str(looped.detail["loop_turns"])) > 100
    outcome.figures |= looped.figures
    outcome.figures |= dict.fromkeys(("snapshot_join_s", "snapshot_join_bytes"))
    measure_proofs(QUICK, outcome)
    measure_seats(QUICK, outcome)
    if measure_settlement(outcome):
        assert outcome.figures["evm_post_gas"] is None, "its packages are not installed"
    else:
        assert int(str(outcome.figures["evm_post_gas"])) < 120_000
        assert int(str(outcome.figures["evm_claim_gas"])) < 77_000
    assert int(str(outcome.figures["light_proof_bytes_n16"])) <= 1_600
    assert int(str(outcome.figures["run_entry_bytes_1024"])) <= 8_192
    measured = {
        *outcome.figures,
        "apply_tx_per_s",
        "sync_10k_blocks_s",
        "founder_lost_final_s",
        "finality_hops",
        "block_hops",
    }
    assert set(row.split("|")[2].split()) == measured


def test_a_founder_is_lost_and_followers_keep_up_in_virtual_time(tmp_path: Path) -> None:
    lost = lose_founder(tmp_path / "founder", 4, 1)
    assert 0.0 < lost < 30.0
    seen = measure_followers(tmp_path / "followers", 6, blocks=2)
    assert seen["followers"] == 6
    assert int(str(seen["behind_most"])) <= 2


def test_what_a_round_puts_into_blocks_is_counted_by_kind() -> None:
    (row,) = traffic_table((4,)).values()
    assert isinstance(row, dict)
    assert row["kinds"]["CommitSegment"] == row["seats"] == 16
    assert row["kinds"]["DataRequest"] > 0
    assert row["bytes_a_round"] > 16 * 287
    assert row["mb_a_day"] == round(
        (row["bytes_a_round"] + row["bytes_of_headers_a_round"]) * 2_160 / 1e6, 1
    )
