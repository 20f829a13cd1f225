"""Watch how segments are judged, and say what it means for this node.

Shell: compares the final state with the one it saw before; decides nothing.
"""

from swarm.events import EventKind
from swarm.ledger.records import Contribution, Run
from swarm.ledger.state import State
from swarm.node.audits import new_sentences
from swarm.node.context import Context


class Witness:
    """One node's memory of verdicts."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._before: State | None = None

    def look(self, run: Run) -> None:
        """Take note of what the ledger says now."""
        context, state = self._context, self._context.ledger.state
        before, self._before = self._before, state
        if before is state:
            return
        context.tally.sentences.extend(new_sentences(before, state, run.index))
        if before is not None:
            old = before.contribution(run.index, context.me)
            self._tell(old, state.contribution(run.index, context.me))

    def _tell(self, old: Contribution, new: Contribution) -> None:
        report = self._context.report
        if new.silent > old.silent:
            report(
                EventKind.WARNING,
                "a segment of ours was voided: its windows were not served, or its leaves not shown, in time",
            )
        if new.is_barred and not old.is_barred:
            report(
                EventKind.ERROR,
                "a segment of ours was proven false: this node trains no more in this run, and puts up no"
                " stake. If it is honest, its arithmetic or memory is faulty",
            )
