"""State a window, and show what a seed asks for: the solver's half of a spot check.

Core: a machine; all it says is a function of the log of the window, and of what it is to state falsely.

The window is computed twice: once for the statement, and once for what is asked for. Values are never kept: a
trace is many times as large as the model.
"""

from functools import partial

from swarm.ledger.check_statements import FORCED_ELEMENTS
from swarm.primitives.crypto import SecretKey
from swarm.training.record.window import EventHead, WindowKey, head_of
from swarm.types import Digest, PeerId
from swarm.verify.program.account import Account, Kind, result_of
from swarm.verify.program.computed import Copied, Log, Merged, Said, Step, as_it_is
from swarm.verify.program.events import OpenAnchor, OpenEnd
from swarm.verify.program.opened import Window, open_microbatch
from swarm.verify.program.tracing import Traced
from swarm.verify.spots.checking import ShownTrace, SpotShown, Wanted
from swarm.verify.spots.elements import shown
from swarm.verify.spots.forced import Flips, element_of
from swarm.verify.spots.proof import FalseTrace
from swarm.verify.spots.statement import (
    CopyTrace,
    MergeTrace,
    MicrobatchTrace,
    Opened,
    SpotOpened,
    SpotStatement,
    TraceSaid,
    UpdateTrace,
    bare,
    sign_statement,
    trace_path,
    traces_of,
)


class Solved:
    """A window of this seat, computed by its programs."""

    def __init__(self, window: Window, log: Log, forced: Digest | None = None) -> None:
        """Compute it; ``forced``: seed of what is to be stated falsely; None for the truth."""
        self._window, self._log, self._forced = window, log, forced
        self._num_traces = 0
        self.account: Account = log.account
        self._steps = dict[int, Step]()
        self._traded = dict[int, Copied | Merged]()
        events = tuple(bare(self._event(at)) for at in range(len(self.account.kinds)))
        records = [one for step in self._steps.values() for one in step.records]
        heads: tuple[EventHead, ...] = tuple(map(head_of, log.data.events))
        self.opened = SpotOpened(
            account=self.account,
            events=events,
            microbatches=tuple(map(open_microbatch, records)),
            heads=heads,
        )
        self.traces = traces_of(window.facts, self.opened, window.first_step)

    def statement(
        self, secret: SecretKey, chain: Digest, run_digest: Digest, key: WindowKey, to: PeerId
    ) -> SpotStatement:
        """Return the signed statement for a peer."""
        claim = result_of(self.account).claim
        return sign_statement(secret, chain, run_digest, key, to, claim, self.opened, self.traces)

    def shown(self, asked: list[Wanted]) -> SpotShown:
        """Show what a seed asks for."""
        return SpotShown(tuple(map(self._shown, asked)))

    def false_elements(self, said: SpotStatement, dice: bytes) -> list[FalseTrace]:
        """Return the drawn elements of the update that a statement made here on purpose is false about."""
        assert self._forced is not None, "something is stated falsely"
        number = next(n for n, one in enumerate(self.traces) if isinstance(one, UpdateTrace))
        trace, path = self.traces[number], trace_path(self.traces, number)
        traced = self._trace(trace)
        drawn = partial(element_of, traced.program, self._forced, number, dice)
        items = [drawn(element) for element in range(FORCED_ELEMENTS)]
        return [
            FalseTrace(
                statement=said,
                trace=trace,
                number=number,
                path=path,
                values=one.values,
                reveal=one.reveal,
            )
            for one in shown(traced, items)
        ]

    @property
    def _said(self) -> Said:
        """Statement of the values of the next event."""
        return as_it_is if self._forced is None else Flips(self._forced, self._num_traces)

    def _event(self, at: int) -> Opened:
        window, log, account = self._window, self._log, self.account
        match Kind(account.kinds[at]):
            case Kind.STEP:
                step = self._steps[at] = self.step(at)
                self._num_traces += step.update + 1
                return step.opened(account)
            case Kind.COPY:
                copied = self._traded[at] = Copied(window, log, at, self._said)
                self._num_traces += 1
                return copied.opened(account)
            case Kind.MERGE:
                merged = self._traded[at] = Merged(window, log, at, said=self._said)
                self._num_traces += 1
                return merged.opened(account)
            case Kind.ANCHOR:
                return OpenAnchor(account, *log.around(at))
            case Kind.END:
                return OpenEnd(account, *log.around(at))

    def step(self, at: int) -> Step:
        """Compute the step that is an event of the window."""
        return Step(self._window, self._log, at, self.account, self._said)

    def _shown(self, asked: Wanted) -> ShownTrace:
        traced = self._trace(self.traces[asked.trace])
        bound = tuple(traced.path(number) for number in sorted(asked.case.bound))
        return ShownTrace(bound, tuple(shown(traced, asked.items)))

    def _trace(self, trace: TraceSaid) -> Traced:
        match trace:
            case MicrobatchTrace(number):
                (step,) = self._steps.values()
                return step.traced(number)
            case UpdateTrace():
                (step,) = self._steps.values()
                return step.traced(step.update)
            case CopyTrace(event) | MergeTrace(event):
                return self._traded[event].traced()
