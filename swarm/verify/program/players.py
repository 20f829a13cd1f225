"""Play both sides of a dispute from the log of a window.

Core: machines; a move is a function of the log, and of what the other side has said.

A side replays the window up to the disputed step, and computes that step again by its programs. Of each program
only the digests of its values are kept; the values are computed again when they are asked for, of one program
at a time.

Legend: P parameters of the shard, B batch, T time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from swarm.primitives.codec import replace
from swarm.primitives.merkle import merkle_root
from swarm.primitives.openings import Tree, tensor_content
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import draw_samples
from swarm.training.messages import NO_SEAT
from swarm.training.model.exact.operators import rotary_tables
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.llama import head_width
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MicrobatchRecord, number_component, tokens_component
from swarm.training.record.window import ComputedMicrobatch, StepTaken, WindowData
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest
from swarm.verify.program.account import Account, Kind, account_of, first_difference, kind_of
from swarm.verify.program.cases import (
    STEPS,
    TOKENS,
    Facts,
    microbatch_program_of,
    step_numbers,
    update_program_of,
)
from swarm.verify.program.dispute import (
    Dispute,
    Elsewhere,
    Move,
    OpenedMicrobatch,
    OpenMicrobatch,
    OpenOther,
    OpenStep,
    OpenTokens,
    Phase,
    PickPart,
    Window,
    case_of,
    step_number,
)
from swarm.verify.program.game import Attack, Defence, Split, Walk
from swarm.verify.program.nodes import Program
from swarm.verify.program.reveal import value_roots
from swarm.verify.replay import Replay
from swarm.verify.transcript import microbatch_leaf

Values = list[Tensor]


@dataclass(frozen=True, slots=True)
class Log:
    """All that a window is computed from; the arguments of ``replay``."""

    plan: RoundPlan
    data: WindowData
    tokens: TokenSource
    anchors: Mapping[Digest, Tensor]
    base_W: Tensor | None = None

    @property
    def facts(self) -> Facts:
        """Facts about its round, from the ledger."""
        plan = self.plan
        return Facts(plan.spec, plan.run_digest, self.data.key.stage, plan.round, plan.beacon)

    @property
    def account(self) -> Account:
        """Account of the window that an honest side gives."""
        return account_of(self.plan, self.data, self.tokens, self.anchors, self.base_W)

    def before(self, event: int) -> tuple[Shard, StepTaken]:
        """Return the shard before an event that is a step, and the step."""
        machine = Replay(self.plan, self.data, self.tokens, self.anchors, self.base_W)
        left = event
        for one in self.data.events:
            if kind_of(one) is not None:
                if not left:
                    assert isinstance(one, StepTaken), "the event is a step"
                    return machine.shard, one
                left -= 1
            machine.apply(one)
        raise AssertionError("an event of the window")


class Step:
    """One step of a window, computed by its programs."""

    def __init__(self, window: Window, log: Log, event: int, account: Account) -> None:
        self._log = log
        shard, self._taken = log.before(event)
        self._params_P, self._moments = shard.params_P, shard.optimizer
        self.seen = shard.optimizer.step
        self.tokens = (shard.tokens_total, *shard.tokens_at_sync)
        self.before = shard.components()
        facts = window.facts
        self._microbatch = microbatch_program_of(facts.spec, facts.stage)
        counted = len(self._taken.microbatches)
        number = step_number(window, account, event)
        self._update = update_program_of(
            facts.spec, facts.stage, step_numbers(facts, number, self.seen, counted)
        )
        self._held = -1
        self._values: Values = []
        self._gradients = list[Tensor]()
        self.roots = list[list[Digest]]()
        """Digests of the values of each part: of every micro-batch, and of the update."""
        self.records = list[MicrobatchRecord]()
        for part in range(counted):
            values = self.values(part)
            self.roots.append(value_roots(self._microbatch, values))
            self._gradients.append(values[self._microbatch.outputs["gradient"]])
            self.records.append(self._record(self._taken.microbatches[part], self.roots[part]))
        self.roots.append(value_roots(self._update, self.values(counted)))
        self.after = self._after(counted)

    @property
    def update(self) -> int:
        """Number of the part that is the update."""
        return len(self.records)

    def program(self, part: int) -> Program:
        """Return the program of a part."""
        return self._update if part == self.update else self._microbatch

    def values(self, part: int) -> Values:
        """Return the values of a part."""
        if part != self._held:
            is_update = part == len(self._taken.microbatches)
            program = self._update if is_update else self._microbatch
            given = self._given_update() if is_update else self._given(part)
            self._values, self._held = self.computed(part, program, given), part
        return self._values

    def computed(self, part: int, program: Program, given: Mapping[str, Tensor]) -> Values:
        """Run the program of a part."""
        del part
        return program.run(trusted_kernels().kernels, given)

    def digest(self, part: int, output: str) -> Digest:
        """Return the digest of an output of a part."""
        program = self.program(part)
        return self.roots[part][program.outputs[output]]

    def opened(self, account: Account) -> OpenStep:
        """Return the statement that opens this step of an account."""
        shown = tuple(
            OpenedMicrobatch(
                leaf=microbatch_leaf(record),
                trace=merkle_root(self.roots[part]),
                gradient=self.digest(part, "gradient"),
            )
            for part, record in enumerate(self.records)
        )
        return OpenStep(
            account=account,
            before=self.before,
            after=self.after,
            seen=self.seen,
            tokens=self.tokens,
            dropped=self._taken.dropped,
            piece=self.digest(self.update, "piece"),
            microbatches=shown,
            update=merkle_root(self.roots[self.update]),
        )

    def _given(self, part: int) -> dict[str, Tensor]:
        """Return the inputs of a micro-batch."""
        computed, spec = self._taken.microbatches[part], self._log.plan.spec
        model = spec.model
        inputs_BT, labels_BT, _ = draw_samples(
            self._log.tokens, self._log.plan, computed.microbatch_id
        )
        cos, sin = rotary_tables(model.seq_len, head_width(model), model.rope_theta, model.rope)
        given = {
            "params": self._params_P,
            "ids": inputs_BT.reshape(-1).to(torch.int32),
            "labels": labels_BT.reshape(-1).to(torch.int32),
            "cos": cos,
            "sin": sin,
        }
        for name, message in (("entry_wire", computed.request), ("pull_wire", computed.reply)):
            if message is not None:
                given[name] = torch.from_numpy(np.frombuffer(message.payload, np.uint8).copy())
        if self._log.base_W is not None:
            given["base"] = self._log.base_W
        return given

    def _given_update(self) -> dict[str, Tensor]:
        given = {"params": self._params_P, "m": self._moments.m_P, "v": self._moments.v_A}
        return given | {f"gradient_{at}": one for at, one in enumerate(self._gradients)}

    def _record(self, computed: ComputedMicrobatch, roots: list[Digest]) -> MicrobatchRecord:
        """Return what the leaf of a micro-batch is the hash of."""
        program, request, reply = self._microbatch, computed.request, computed.reply

        def given(name: str) -> Digest:
            return roots[program.inputs[name]] if name in program.inputs else NO_DIGEST

        def made(name: str) -> Digest:
            return roots[program.outputs[name]] if name in program.outputs else NO_DIGEST

        looks_up = "ids" in program.inputs or "labels" in program.inputs
        draw = draw_samples(self._log.tokens, self._log.plan, computed.microbatch_id)
        is_end = reply is None and request is not None
        seat = self._log.data.key.seat if is_end else NO_SEAT
        return MicrobatchRecord(
            *computed.microbatch_id,
            in_activation=given("entry_wire"),
            in_gradient=given("pull_wire"),
            out_activation=made("activations_wire"),
            out_gradient=made("gradient_down_wire"),
            source=NO_SEAT if request is None else request.source,
            destination=seat if reply is None else reply.destination,
            sample_ids_root=draw[2] if looks_up else NO_DIGEST,
        )

    def _after(self, update: int) -> tuple[Digest, ...]:
        spec = self._log.plan.spec
        trained = len(self.records) * spec.microbatch_size * spec.model.seq_len
        total, *at_sync = self.tokens
        parts = list(self.before)
        parts[:3] = [self.digest(update, name) for name in ("params", "m", "v")]
        parts[STEPS] = number_component(self.seen + 1)
        parts[TOKENS] = tokens_component(total + trained, at_sync)
        return tuple(parts)


class Side:
    """A side of a dispute: a window, its log, and an account of it."""

    def __init__(self, window: Window, log: Log, account: Account | None = None) -> None:
        """``account``: what this side says; by default what its log gives."""
        self.account = account or log.account
        self._window, self._log = window, log
        self._step: tuple[int, Step] | None = None

    def step(self, event: int) -> Step:
        """Return the disputed step, computed once."""
        if self._step is None or self._step[0] != event:
            self._step = (event, Step(self._window, self._log, event, self.account))
        return self._step[1]

    def take(self, other: "Side") -> None:
        """Compute the disputed step no more: another side with the same log has."""
        self._step = other._step


class Solver(Side):
    """The solver's side."""

    def move(self, dispute: Dispute) -> Move:
        """Return the solver's move."""
        if dispute.phase == Phase.OPEN:
            return self._open(dispute)
        step = self.step(dispute.event)
        program, values = step.program(dispute.part), step.values(dispute.part)
        defence = Defence(program, values, step.roots[dispute.part])
        is_update = dispute.part == step.update
        if dispute.phase == Phase.BEGIN and not is_update:
            record = step.records[dispute.part]
            first = OpenMicrobatch(
                origin=record.origin,
                step=record.step,
                microbatch=record.microbatch,
                source=record.source,
                destination=record.destination,
                in_activation=record.in_activation,
                in_gradient=record.in_gradient,
                out_activation=record.out_activation,
                out_gradient=record.out_gradient,
                sample_ids_root=record.sample_ids_root,
                hashes=(),
            )
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
        if 0 <= event < len(account.kinds) and account.kinds[event] == Kind.STEP:
            return self.step(event).opened(account)
        return OpenOther(account)

    def _open_tokens(self) -> OpenTokens:
        log = self._log
        machine = Replay(log.plan, log.data, log.tokens, log.anchors, log.base_W)
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

    def move(self, dispute: Dispute) -> Move:
        """Return the challenger's move."""
        opened = dispute.opened
        assert opened is not None, "the solver has opened a step"
        event = dispute.event
        if event >= len(self.account.kinds) or self.account.kinds[event] != Kind.STEP:
            return Elsewhere()
        step = self.step(event)
        if dispute.phase == Phase.PART:
            return self._pick(opened, step)
        if dispute.microbatch is not None:
            mine = step.records[dispute.part]
            if _inputs(dispute.microbatch.record) != _inputs(mine):
                return Elsewhere()
        program, values = step.program(dispute.part), step.values(dispute.part)
        attack = Attack(program, values, step.roots[dispute.part], self._text())
        assert dispute.walk is not None, "a walk began"
        return attack.move(case_of(self._window, dispute), dispute.walk)

    def _pick(self, opened: OpenStep, step: Step) -> Move:
        """Point at the first micro-batch of which the solver says something else, or at the update."""
        mine = step.opened(self.account)
        if len(mine.microbatches) != len(opened.microbatches) or mine.dropped != opened.dropped:
            return Elsewhere()
        pairs = enumerate(zip(mine.microbatches, opened.microbatches, strict=True))
        return PickPart(next((part for part, (a, b) in pairs if a != b), step.update))

    def _text(self) -> Tree:
        tokens = self._log.tokens[: len(self._log.tokens)]
        content = tensor_content(tokens.dtype.name, tokens.shape, tokens.nbytes)
        return Tree(content, np.ascontiguousarray(tokens).view(np.uint8).data)


def _inputs(record: MicrobatchRecord) -> tuple[object, ...]:
    """Return what a micro-batch takes from others, and its place."""
    return (
        record.microbatch_id,
        record.source,
        record.destination,
        record.in_activation,
        record.in_gradient,
    )
