"""Play both sides of a dispute from the log of a window.

Core: machines; a move is a function of the log, and of what the other side has said.

A side computes the disputed event again by its programs (``computed.py``), once.
"""

import numpy as np

from swarm.errors import OutOfTurn, PeerFault
from swarm.primitives.codec import replace
from swarm.primitives.edges import SentKind, open_place
from swarm.primitives.openings import Tree, tensor_content
from swarm.training.recorder import entry_of
from swarm.types import Digest
from swarm.verify.inputs import InputTree, StepInputs
from swarm.verify.manifest import WindowManifest
from swarm.verify.program.account import Account, Kind, first_difference
from swarm.verify.program.brief import Opening, brief
from swarm.verify.program.computed import Copied, Log, Merged, Step
from swarm.verify.program.dispute import (
    Dispute,
    Move,
    OpenOther,
    OpenTokens,
    Phase,
    PickPart,
    case_of,
    moved,
)
from swarm.verify.program.events import OpenAnchor, OpenCopy, OpenEnd, OpenMerge
from swarm.verify.program.game import Attack, Defence, Split, Walk
from swarm.verify.program.opened import OpenStep, Window, open_microbatch
from swarm.verify.program.shown import ShowInputs


class Side:
    """A side of a dispute: a window, its log, and an account of it."""

    def __init__(self, window: Window, log: Log, account: Account | None = None) -> None:
        """``account``: what this side says; by default what its log gives."""
        self.account = account or log.account
        self._window, self._log = window, log
        self._step: tuple[int, Step] | None = None
        self._traded: tuple[int, Copied | Merged] | None = None

    def step(self, event: int) -> Step:
        """Return the disputed step, computed once."""
        if self._step is None or self._step[0] != event:
            self._step = (event, Step(self._window, self._log, event, self.account))
        return self._step[1]

    def traded(self, event: int, like: OpenMerge | None = None) -> Copied | Merged:
        """Return the disputed copy or merge, computed once; a merge by the program of ``like``."""
        if self._traded is None or self._traded[0] != event:
            if self.account.kinds[event] == Kind.COPY:
                traded: Copied | Merged = Copied(self._window, self._log, event)
            else:
                traded = Merged(self._window, self._log, event, like)
            self._traded = (event, traded)
        return self._traded[1]

    def take(self, other: "Side") -> None:
        """Compute the disputed event no more: another side with the same log has."""
        self._step, self._traded = other._step, other._traded


class Solver(Side):
    """The solver's side."""

    def move(self, dispute: Dispute) -> Move:
        """Return the solver's move."""
        if dispute.phase == Phase.OPEN:
            return self._open(dispute)
        if isinstance(dispute.opened, OpenCopy | OpenMerge):
            traded = self.traded(dispute.event)
            defence = Defence(traded.program, traded.values, traded.roots)
            return defence.move(case_of(self._window, dispute), dispute.walk or Walk())
        step = self.step(dispute.event)
        program, values = step.program(dispute.part), step.values(dispute.part)
        defence = Defence(program, values, step.roots[dispute.part])
        is_update = dispute.part == step.update
        if dispute.phase == Phase.BEGIN and not is_update:
            record = step.records[dispute.part]
            first = open_microbatch(record)
            case = case_of(self._window, replace(dispute, microbatch=first))
            split = defence.move(case, Walk())
            assert isinstance(split, Split), "a trace is split first"
            return replace(first, hashes=split.hashes)
        return defence.move(case_of(self._window, dispute), dispute.walk or Walk())

    def _open(self, dispute: Dispute) -> Move:
        """Open the first event of which the challenger says something else."""
        account = self.account
        event = first_difference(account, dispute.account)
        if event is None:
            return self._open_tokens()
        if event not in range(len(account.kinds)):
            return OpenOther(account)
        return brief(self._opening_of(event), dispute.account)

    def _opening_of(self, event: int) -> Opening:
        account = self.account
        match Kind(account.kinds[event]):
            case Kind.STEP:
                return self.step(event).opened(account)
            case Kind.COPY | Kind.MERGE:
                return self.traded(event).opened(account)
            case Kind.ANCHOR:
                return OpenAnchor(account, *self._log.around(event))
            case Kind.END:
                return OpenEnd(account, *self._log.around(event))

    def _open_tokens(self) -> OpenTokens:
        log, machine = self._log, self._log.machine()
        states = list[tuple[tuple[Digest, ...], tuple[int, ...]]]()

        def note() -> None:
            shard = machine.shard
            states.append((shard.components(), (shard.tokens_total, *shard.tokens_at_sync)))

        note()
        for event in log.data.events:
            machine.apply(event)
        machine.end()
        note()
        (before, tokens_before), (after, tokens_after) = states
        return OpenTokens(self.account, before, after, tokens_before, tokens_after)


class Challenger(Side):
    """The challenger's side, from the log that it was served."""

    def __init__(
        self,
        window: Window,
        log: Log,
        account: Account | None = None,
        manifest: WindowManifest | None = None,
    ) -> None:
        """``manifest``: the solver's about the log; without it no other inputs can be shown."""
        super().__init__(window, log, account)
        self.manifest, self.inputs = manifest, InputTree(log.data)

    def move(self, dispute: Dispute) -> Move:
        """Return the challenger's move."""
        shown = self._shown(dispute)
        if shown is not None:
            return shown
        opened, event = dispute.opened, dispute.event
        if isinstance(opened, OpenCopy | OpenMerge):
            assert dispute.walk is not None, "a walk began"
            traded = self.traded(event, opened if isinstance(opened, OpenMerge) else None)
            attack = Attack(traded.program, traded.values, traded.roots)
            return attack.move(case_of(self._window, dispute), dispute.walk)
        if not isinstance(opened, OpenStep):
            raise OutOfTurn("the log has the inputs that were opened, and nothing can be computed")
        step = self.step(event)
        if dispute.phase == Phase.PART:
            return self._pick(opened, step)
        program, values = step.program(dispute.part), step.values(dispute.part)
        attack = Attack(program, values, step.roots[dispute.part], self._text())
        assert dispute.walk is not None, "a walk began"
        return attack.move(case_of(self._window, dispute), dispute.walk)

    def _shown(self, dispute: Dispute) -> ShowInputs | None:
        """Return the move that shows other inputs in the log than are open; None if there are none."""
        if self.manifest is None:
            return None
        move, tree, event = ShowInputs(self.manifest), self.inputs, dispute.event
        if 0 <= event < len(tree.events):
            move = replace(move, event=tree.events[event], path=tree.path(event))
        counted = move.event.num_microbatches if isinstance(move.event, StepInputs) else 0
        if dispute.microbatch is not None and dispute.part < counted:
            one = tree.microbatch(event, dispute.part)
            path = tree.microbatch_path(event, dispute.part)
            listed = open_place(
                self._log.sent, (SentKind.MICROBATCH, one.origin, one.step, one.microbatch)
            )
            move = replace(move, microbatch=one, microbatch_path=path, listed=listed)
        try:
            moved(self._window, dispute, move, is_solver=False)
        except PeerFault:
            return None
        return move

    def _pick(self, opened: OpenStep, step: Step) -> Move:
        """Point at the first micro-batch of which the solver says something else, or at the update."""
        pairs = enumerate(
            zip(step.opened(self.account).microbatches, opened.microbatches, strict=False)
        )
        unlike = next((part for part, (a, b) in pairs if a != b), None)
        return PickPart(self._sent_otherwise(step) if unlike is None else unlike)

    def _sent_otherwise(self, step: Step) -> int:
        """Return the first micro-batch of which other bytes went out than are computed; else the update."""
        listed, window = {one.place: one for one in self._log.sent}, self._window.number
        for part, (record, taken) in enumerate(zip(step.records, step.taken, strict=True)):
            mine = entry_of(record, window)
            is_listed = not listed or listed.get(mine.place) == mine
            if not is_listed or (
                taken.reply is not None and taken.reply.activations != record.out_activation
            ):
                return part
        return step.update

    def _text(self) -> Tree:
        tokens = self._log.tokens[: len(self._log.tokens)]
        content = tensor_content(tokens.dtype.name, tokens.shape, tokens.nbytes)
        return Tree(content, np.ascontiguousarray(tokens).view(np.uint8).data)
