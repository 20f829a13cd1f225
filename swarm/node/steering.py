"""Pause a run, go on with it, or end it, when its owner asks: the actions behind the commands.

Shell: says it to the ledger, waits until that is final, and tells what follows.
"""

from collections.abc import Awaitable, Callable, Mapping

from swarm.errors import InvalidStatement, UsageError
from swarm.events import EventKind
from swarm.ledger.queries import progress_text
from swarm.ledger.records import Run, RunPhase
from swarm.ledger.runs import boundary_height, current_round
from swarm.ledger.transactions import CloseRun, PauseRun, ResumeRun
from swarm.node.context import Context
from swarm.types import RunIndex

FINAL_WAIT_S = 60.0
"""A healthy network makes a statement final in a few blocks; a minute says that it does not."""
Statement = Callable[[RunIndex], PauseRun | ResumeRun | CloseRun]
STATEMENTS: Mapping[str, Statement] = {"pause": PauseRun, "resume": ResumeRun, "stop": CloseRun}


class Steering:
    """What the owner of a run may do with it."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def actions(
        self,
    ) -> dict[str, Callable[[Mapping[str, object]], Awaitable[Mapping[str, object]]]]:
        """The actions by name."""
        return {name: self._action(name) for name in STATEMENTS}

    def _action(
        self, name: str
    ) -> Callable[[Mapping[str, object]], Awaitable[Mapping[str, object]]]:
        async def action(_: Mapping[str, object]) -> Mapping[str, object]:
            return await self._say(name)

        return action

    async def _say(self, name: str) -> Mapping[str, object]:
        """Raises ``UsageError`` without a run, for all but its owner, and for what the ledger refuses."""
        context = self._context
        run = context.run
        if run is None:
            raise UsageError("this node has no run yet", hint="swarm status")
        if run.owner != context.me:
            raise UsageError(
                f"only the owner of run {run.spec.name} may {name} it, and that is another peer",
                hint="swarm run show",
            )
        try:
            height = await context.ledger.submit_final(STATEMENTS[name](run.index), FINAL_WAIT_S)
        except InvalidStatement as refused:
            why = str(refused).removeprefix(f"{refused.reason.value}: ")
            raise UsageError(
                f"nothing to {name} in run {run.spec.name}: {why}", hint="swarm run show"
            ) from None
        run = context.run
        assert run is not None, "a run does not go away"
        text = outlook(run, context.ledger.height)
        context.report(EventKind.PROGRESS, text)
        return {
            "run": run.spec.name,
            "phase": run.phase.value,
            "round": run.next_round,
            "rounds": run.end_round,
            "height": height,
            "text": text,
        }


def outlook(run: Run, height: int) -> str:
    """What a run does now and next, in a sentence."""
    name, left = run.spec.name, boundary_height(run, run.next_round) - height
    blocks = f"{left} block{'s' * (left != 1)}"
    if run.phase is RunPhase.PAUSED:
        return f"run {name} rests before round {run.next_round}; go on with: swarm resume"
    if run.is_pausing:
        return f"run {name} rests from round {run.next_round} on, in {blocks}"
    if run.next_round >= run.end_round and run.phase in {RunPhase.OPEN, RunPhase.TRAINING}:
        return f"run {name} trains no more in {blocks}; then its replicas agree on one model"
    if run.phase is RunPhase.OPEN:
        return f"run {name} begins round {run.next_round} in {blocks}"
    return f"run {name}: {progress_text(run, current_round(run, height))}"
