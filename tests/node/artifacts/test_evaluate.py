"""A node measures each new checkpoint once, with the loss that the whole model has, and shows the newest."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trio
from torch import Tensor

from swarm.config.schema import NodeConfig
from swarm.config.spec import NANO
from swarm.errors import Unreachable
from swarm.events import EventKind
from swarm.ledger.state.records import Checkpoint, Run
from swarm.node.artifacts.evaluate import (
    POLL_S,
    RETRY_S,
    SHOWN_MAX,
    TABLE,
    WINDOWS,
    Evaluation,
    evaluate_checkpoints,
    evaluations_of,
)
from swarm.primitives.codec import encode, replace
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.training.inference.evaluate import (
    WINDOWS_PER_PASS,
    heldout_loss,
    perplexity,
    whole_model,
)
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import init_flat, plan_stages
from swarm.training.starts import starts_of
from swarm.types import Digest, Height, PeerId, RoundIndex, StageIndex
from swarm.verify.ports import EventPort
from tests.node.fakes import a_round, a_run
from tests.training.pipeline import TEXT, a_spec

PLAIN = a_spec(stages=2)
PLANS = plan_stages(PLAIN.model, 2)
TOKENS = np.frombuffer(TEXT, dtype=np.uint8)
ME, OTHER = PeerId(b"m" * 32), PeerId(b"o" * 32)
RUN16 = b"r" * 16
COST_S = 0.01
"""Of one job of a measurement."""


def root(round_: int, stage: int) -> Digest:
    return Digest(bytes([round_, stage]) * 16)


SPEC = replace(PLAIN, starts=starts_of(PLAIN, [root(0, stage) for stage in range(2)]))


def weights(round_: int, stage: int) -> Tensor:
    return init_flat(PLANS[stage], 40 + round_)


class FakeArtifacts:
    """Checkpoints by their roots; some cannot be had for a while."""

    def __init__(self) -> None:
        self.failures = 0
        self.reads = 0

    async def heldout(self, _: object) -> np.ndarray[Any, Any]:
        if self.failures:
            self.failures -= 1
            raise Unreachable("no peer has the held-out text")
        return TOKENS

    async def anchor(self, _: object, stage: StageIndex, wanted: Digest) -> Tensor:
        self.reads += 1
        assert wanted == root(wanted[0], stage)
        return weights(wanted[0], stage)

    async def base(self, _: object, stage: StageIndex) -> Tensor | None:
        return None


@dataclass
class Measuring:
    """A node that measures checkpoints."""

    run: Run | None
    store: Store
    config: NodeConfig
    checking: InlineExecutor
    artifacts: FakeArtifacts
    report: EventPort
    me: PeerId = ME
    run16: bytes = RUN16


class Harness:
    """What the loop needs of a node."""

    def __init__(self, folder: Path, *, owner: PeerId = ME, evaluate: bool = False) -> None:
        self.store = Store.open(folder / "store.sqlite")
        self.events: list[tuple[EventKind, str]] = []
        self.artifacts = FakeArtifacts()
        checking = InlineExecutor(lambda _: COST_S)
        config = NodeConfig(evaluate=evaluate)
        self.node = Measuring(
            run=a_run(SPEC, owner=owner),
            store=self.store,
            config=config,
            checking=checking,
            artifacts=self.artifacts,
            report=self.report,
        )
        self.has_reported = trio.Event()

    def report(self, kind: EventKind, text: str, **fields: str | int) -> None:
        self.events.append((kind, text))
        self.has_reported.set()

    async def next_report(self) -> None:
        """Wait for the next report: a row is on the disk before it is reported, and disks know no virtual
        time.
        """
        self.has_reported = trio.Event()
        await self.has_reported.wait()

    def change(self, **facts: object) -> None:
        """Let the ledger go on."""
        assert self.node.run is not None
        self.node.run = replace(self.node.run, **facts)

    def post(self, stage: int, round_: int) -> None:
        assert self.node.run is not None
        listed = list(self.node.run.checkpoints)
        found = Checkpoint(
            round=RoundIndex(round_),
            phi_root=root(round_, stage),
            phi_bytes=4,
            peer=ME,
            seat=0,
            height=Height(0),
            is_void=False,
        )
        listed[stage] = (found, *listed[stage])
        self.change(checkpoints=tuple(listed), rounds=(a_round(round_, 0),))

    def rows(self) -> list[dict[str, Any]]:
        return evaluations_of(self.node)

    def write(self, round_: int, loss: float = 2.0, run16: bytes = RUN16) -> None:
        raw = encode(Evaluation(round(loss * NANO), 100))
        self.store.put(TABLE, run16 + round_.to_bytes(4, "big"), raw)


def here(round_: int) -> float:
    """The loss of the whole model on one machine."""
    flat = torch.cat([weights(round_, stage) for stage in range(2)])
    return heldout_loss(whole_model(SPEC.model, NATIVE), flat, TOKENS, num_windows=WINDOWS)


@pytest.mark.rule("N18")
async def test_each_boundary_that_all_stages_have_is_measured_once(
    tmp_path: Path, autojump_clock: object
) -> None:
    harness = Harness(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(evaluate_checkpoints, harness.node)
        await harness.next_report()
        assert [row["round"] for row in harness.rows()] == [0]
        harness.post(0, 8)
        await trio.sleep(20)
        assert [row["round"] for row in harness.rows()] == [0], "a stage has no checkpoint yet"
        harness.post(1, 8)
        await harness.next_report()
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    for row in harness.rows():
        assert row["loss_nats"] == pytest.approx(here(row["round"]), abs=1e-5)
        assert row["perplexity"] == perplexity(row["loss_nats"])
        assert row["tokens"] == WINDOWS * SPEC.model.seq_len
    assert [row["round"] for row in harness.rows()] == [0, 8]
    assert harness.artifacts.reads == 4, "two stages, twice"
    assert [text.split(":")[0] for _, text in harness.events] == [
        "held-out loss of the initial weights",
        "held-out loss of the checkpoint of round 8",
    ]


@pytest.mark.rule("N18")
async def test_a_measurement_rests_a_hundred_times_as_long_as_it_took(
    tmp_path: Path, autojump_clock: object
) -> None:
    harness = Harness(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(evaluate_checkpoints, harness.node)
        await harness.next_report()
        began = trio.current_time()
        for round_ in (8, 16):
            harness.post(0, round_)
            harness.post(1, round_)
        await harness.next_report()
        nursery.cancel_scope.cancel()
    jobs = 1 + 2 * WINDOWS // WINDOWS_PER_PASS
    assert sum(harness.node.checking.spent_s.values()) == pytest.approx(2 * jobs * COST_S)
    rested_s = trio.current_time() - began - jobs * COST_S
    assert 0 <= rested_s - 100 * jobs * COST_S / (os.cpu_count() or 1) <= 2 * POLL_S
    assert [row["round"] for row in harness.rows()] == [0, 16], "the newest, and not the one before"


@pytest.mark.parametrize(("owner", "evaluate"), [(OTHER, False), (OTHER, True), (ME, False)])
async def test_the_owner_measures_and_who_is_told_to(
    tmp_path: Path, owner: PeerId, evaluate: bool, autojump_clock: object
) -> None:
    harness = Harness(tmp_path, owner=owner, evaluate=evaluate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(evaluate_checkpoints, harness.node)
        if owner == ME or evaluate:
            await harness.next_report()
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert len(harness.rows()) == (owner == ME or evaluate)


async def test_what_cannot_be_had_is_asked_for_again_in_a_while(
    tmp_path: Path, autojump_clock: object
) -> None:
    harness = Harness(tmp_path)
    harness.artifacts.failures = 2
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(evaluate_checkpoints, harness.node)
        for _ in range(3):
            await harness.next_report()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began > 2 * RETRY_S
    kinds = [kind for kind, _ in harness.events]
    assert kinds == [EventKind.WARNING, EventKind.WARNING, EventKind.CHECKPOINT]
    assert "no peer has the held-out text" in harness.events[0][1]


async def test_before_there_is_a_run_nothing_is_measured(
    tmp_path: Path, autojump_clock: object
) -> None:
    harness = Harness(tmp_path)
    harness.node.run = None
    with trio.move_on_after(20):
        await evaluate_checkpoints(harness.node)
    assert harness.rows() == []
    assert harness.events == []


def test_rows_of_other_runs_and_other_releases_are_left_out(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.write(3, run16=b"a" * 16)
    harness.write(8)
    harness.write(9, run16=b"z" * 16)
    harness.store.put(TABLE, RUN16 + (16).to_bytes(4, "big"), b"of another release")
    assert [row["round"] for row in harness.rows()] == [8]


@pytest.mark.parametrize("is_settled", [False, True])
def test_of_a_long_run_the_newest_are_shown(tmp_path: Path, is_settled: bool) -> None:
    harness, every = Harness(tmp_path), SPEC.checkpoint_rounds
    last = every * (SHOWN_MAX + 100)
    harness.store.write(
        [
            (TABLE, RUN16 + at.to_bytes(4, "big"), encode(Evaluation(NANO, 100)))
            for at in range(0, last + 1, every)
        ]
    )
    harness.change(rounds=() if is_settled else (a_round(last, 0),), end_round=RoundIndex(last))
    shown = [row["round"] for row in harness.rows()]
    assert shown[-1] == last
    assert len(shown) == SHOWN_MAX - 1
