"""Measure the held-out loss of every new canonical checkpoint, and remember the results.

Shell: runs at the node that launched the run, and where the node file says ``evaluate``; one stage is in memory
at a time, and the arithmetic gives way to training. On a machine whose processors are all busy it still takes
time from training, so it takes a small share and rests in between.
"""

from typing import Protocol

import trio
from torch import Tensor

from swarm.config.spec import NANO, RunSpec
from swarm.errors import BadConfig, BadEncoding, Corrupt, Unreachable
from swarm.events import EventKind
from swarm.executor import ExecutorPort
from swarm.ledger.state.records import Run
from swarm.ledger.views import common_rounds
from swarm.machine import read_cores
from swarm.node.ports import HasConfig, HasMe, HasReport, HasRun, HasStore
from swarm.primitives.codec import Message, decode, encode
from swarm.training.data.dataset import TokenSource
from swarm.training.inference.evaluate import (
    ACTIVATION_BYTES_MAX,
    WINDOWS_PER_PASS,
    heldout_passes,
    mean_loss,
    pass_on,
    perplexity,
)
from swarm.training.model.bottleneck import with_ids
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import Stage, plans_of
from swarm.types import Digest, StageIndex

TABLE = "evaluations"
"""Table of held-out losses, by run and round."""
WINDOWS = 128
"""Windows of held-out text: at 128 positions each, the mean is good to about .02 nats."""
POLL_S = 2.0
RETRY_S = 30.0
"""Seconds to wait after a text or a checkpoint could not be had."""
SHARE_MAX = 0.01
"""Share of this machine's processor time. Of the checkpoints that come meanwhile the newest is measured."""
SHOWN_MAX = 500
"""Points given to the local page: the newest."""


class Evaluation(Message, frozen=True):
    """Held-out loss of one checkpoint."""

    loss_nano: int
    """Mean loss in billionths of a nat per token."""
    tokens: int
    """Predictions over which the mean is taken."""


class HeldoutArtifacts(Protocol):
    """Reader of what a model is measured with: ``ArtifactCache``."""

    async def heldout(self, run: Run) -> TokenSource:
        """Return the held-out tokens."""
        ...

    async def anchor(self, run: Run, stage: StageIndex, root: Digest) -> Tensor:
        """Return the weights that ``root`` names."""
        ...

    async def base(self, run: Run, stage: StageIndex) -> Tensor | None:
        """Return the weights below the adapter of a run; None in a run without one."""
        ...


class MeasuredExecutor(ExecutorPort, Protocol):
    """Worker that counts its time: ``swarm.executor.Executor``."""

    @property
    def spent_s(self) -> dict[str, float]:
        """Processor seconds by name of the function."""
        ...


class RowsNode(HasRun, HasStore, Protocol):
    """Parts of a node that hold measurements."""


class OwnerNode(HasMe, HasConfig, Protocol):
    """Parts of a node that say whether it measures."""


class EvaluatingNode(RowsNode, OwnerNode, HasReport, Protocol):
    """Parts of a node that measure checkpoints."""

    @property
    def artifacts(self) -> HeldoutArtifacts:
        """Reader of weights and held-out text."""
        ...

    @property
    def checking(self) -> MeasuredExecutor:
        """Worker that gives way to training."""
        ...


def evaluations_of(context: RowsNode) -> list[dict[str, object]]:
    """Return rows of round, loss and perplexity for this run, oldest first."""
    run16, rows = context.run16, list[dict[str, object]]()
    for key, raw in context.store.items(TABLE, after=_before_shown(context), limit=SHOWN_MAX):
        if key[: len(run16)] != run16:
            break
        try:
            found = decode(Evaluation, raw)
        except BadEncoding:
            continue  # written by another release
        loss = found.loss_nano / NANO
        rows.append(
            {
                "round": int.from_bytes(key[len(run16) :], "big"),
                "loss_nats": loss,
                "perplexity": perplexity(loss),
                "tokens": found.tokens,
            }
        )
    return rows


def measures(context: OwnerNode, run: Run) -> bool:
    """Return True if this node measures checkpoints: it launched the run, or its node file says so."""
    return run.owner == context.me or context.config.evaluate


async def evaluate_checkpoints(context: EvaluatingNode) -> None:
    """Measure the initial weights, then the newest checkpoint whenever there is one; runs until cancelled."""
    while True:
        await trio.sleep(POLL_S)
        run = context.run
        if run is None or not measures(context, run):
            continue
        round_ = next(iter(common_rounds(run)), 0)
        if context.store.get(TABLE, _key(context, round_)) is not None:
            continue
        before_s = _spent_s(context)
        try:
            found = await _measure(context, run, round_)
        except (Unreachable, BadConfig, Corrupt) as error:
            context.report(EventKind.WARNING, f"round {round_} was not evaluated: {error}")
            await trio.sleep(RETRY_S)
            continue
        await context.store.write_soon([(TABLE, _key(context, round_), encode(found))])
        loss = found.loss_nano / NANO
        what = f"the checkpoint of round {round_}" if round_ else "the initial weights"
        context.report(
            EventKind.CHECKPOINT,
            f"held-out loss of {what}: {loss:.3f} nats, perplexity {perplexity(loss):.2f}",
            round=round_,
        )
        await trio.sleep(rest_s(_spent_s(context) - before_s))


def rest_s(spent_s: float) -> float:
    """Return the seconds to rest after a measurement that took so many seconds of one processor."""
    return spent_s / (SHARE_MAX * read_cores())


def _spent_s(context: EvaluatingNode) -> float:
    """Return the processor seconds of all measurements since the start."""
    spent_s = context.checking.spent_s
    return sum(spent_s.get(job.__qualname__, 0.0) for job in (heldout_passes, pass_on, mean_loss))


async def _measure(context: EvaluatingNode, run: Run, round_: int) -> Evaluation:
    """Return the mean loss over the held-out windows, computed one stage after the other."""
    spec, run_job = run.spec, context.checking.run
    tokens = await context.artifacts.heldout(run)
    passes = await run_job(heldout_passes, tokens, spec.model.seq_len, _windows(spec))
    ids = [inputs_BT for inputs_BT, _ in passes]
    rows = list[Tensor](ids)
    labels = [labels_BT for _, labels_BT in passes]
    losses, counts = list[float](), [len(labels_BT) for labels_BT in labels]
    for plan in plans_of(spec):
        params_P = await _weights(context, run, StageIndex(plan.stage), round_)
        base_W = await context.artifacts.base(run, StageIndex(plan.stage))
        stage = Stage(plan, NATIVE, base_W)
        for number, ids_BT in enumerate(ids):
            inputs = ids_BT if plan.is_first else with_ids(spec.model, rows[number], ids_BT)
            if plan.is_last:
                loss = await run_job(mean_loss, stage, params_P, inputs, labels[number])
                losses.append(loss)
            else:
                rows[number] = await run_job(pass_on, stage, params_P, inputs)
    mean = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    return Evaluation(round(mean * NANO), sum(counts) * spec.model.seq_len)


async def _weights(context: EvaluatingNode, run: Run, stage: StageIndex, round_: int) -> Tensor:
    """Return the weights that the ledger names for a stage at a boundary; 0 is the initialisation."""
    root = run.spec.starts[stage].weights
    if round_:
        root = next(kept.phi_root for kept in run.checkpoints[stage] if kept.round == round_)
    return await context.artifacts.anchor(run, stage, root)


def _windows(spec: RunSpec) -> int:
    """Return the number of windows whose activations fit in memory while the stages change."""
    each = 4 * spec.model.seq_len * spec.model.hidden_size
    return max(min(WINDOWS, ACTIVATION_BYTES_MAX // each), WINDOWS_PER_PASS)


def _before_shown(context: RowsNode) -> bytes:
    """Return the key after which at most ``SHOWN_MAX`` boundaries of this run follow."""
    run = context.run
    if run is None:
        return context.run16
    newest = run.rounds[-1].round if run.rounds else run.final_round
    earlier = newest - (SHOWN_MAX - 1) * run.spec.checkpoint_rounds
    return _key(context, earlier) if earlier > 0 else context.run16


def _key(context: HasRun, round_: int) -> bytes:
    return context.run16 + round_.to_bytes(4, "big")
