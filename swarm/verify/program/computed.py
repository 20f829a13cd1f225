"""Compute one event of a window by its programs, from the log of the window.

Core: machines; what they compute is a function of the log.

The window is replayed up to the event, and that is computed again by its programs. Of the programs of a step
only the digests of their values are kept; the values are computed again when they are asked for, of one program
at a time. A copy and a merge have one program each, with the values of one fragment.

Legend: P parameters of the shard, B batch, T time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from swarm.errors import OtherBits
from swarm.placement import moved
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.edges import SentEntry, sent_root
from swarm.primitives.merkle import merkle_root
from swarm.primitives.state_parts import (
    ANCHOR,
    FIRST,
    OFFERED,
    OUTER_M,
    PARAMS,
    PHI,
    RESIDUAL,
    SECOND,
    offered_component,
)
from swarm.training.averaging.payload import fragment_payload
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import draw_samples
from swarm.training.messages import NO_SEAT
from swarm.training.model.exact.operators import rotary_tables
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.llama import head_width
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MicrobatchRecord
from swarm.training.record.window import (
    AnchorSet,
    ComputedMicrobatch,
    Event,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    WindowData,
)
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Bytes, Digest
from swarm.verify.edges import Sent
from swarm.verify.program.account import Account, account_of, kind_of
from swarm.verify.program.cases import (
    Facts,
    microbatch_program_of,
    step_numbers,
    update_program_of,
)
from swarm.verify.program.dispute import NO_ACCOUNT
from swarm.verify.program.events import (
    Offered,
    OpenCopy,
    OpenMerge,
    after_copy,
    after_merge,
    copy_case,
    copy_program_of,
    merge_case,
    merge_program_of,
    numbers_of,
)
from swarm.verify.program.game import Case, Defence, Split, Walk
from swarm.verify.program.nodes import Program
from swarm.verify.program.opened import (
    OpenedMicrobatch,
    OpenStep,
    Seating,
    Window,
    after_step,
    step_number,
)
from swarm.verify.program.reveal import value_roots
from swarm.verify.program.tracing import Traced
from swarm.verify.replay import Replay, given_to_partner
from swarm.verify.transcript import microbatch_leaf

Values = list[Tensor]
Said = Callable[[Program, int, int, Tensor], Tensor]
"""Statement of a value: of a program, by the number of that among those of its event, and of the node."""


def as_it_is(program: Program, part: int, number: int, value: Tensor) -> Tensor:
    """Return what an honest trace states of a value: itself."""
    del program, part, number
    return value


@dataclass(frozen=True, slots=True)
class Log:
    """All that a window is computed from; the arguments of ``replay``."""

    plan: RoundPlan
    data: WindowData
    tokens: TokenSource
    anchors: Mapping[Digest, Tensor]
    base_W: Tensor | None = None
    sent: tuple[SentEntry, ...] = ()
    """The list of what was sent in its segment."""

    @property
    def facts(self) -> Facts:
        """Facts about its round, from the ledger."""
        plan = self.plan
        return Facts(
            spec=plan.spec,
            run_digest=plan.run_digest,
            stage=self.data.key.stage,
            round=plan.round,
            beacon=plan.beacon,
            is_final_averaging=plan.is_final_averaging,
        )

    @property
    def seating(self) -> Seating:
        """Place of the window in its round, from the ledger."""
        plan, key = self.plan, self.data.key
        seats = tuple((seat.index, seat.peer) for seat in plan.rosters[key.stage])
        return Seating(key, plan.chain, seats, sent_root(self.sent))

    @property
    def account(self) -> Account:
        """Account of the window that an honest side gives."""
        return account_of(self.plan, self.data, self.tokens, self.anchors, self.base_W)

    def account_with(self, marker: bytes) -> Account:
        """Return the account of a verifier, to which a lie in the log has ``marker`` in its place."""
        given = (self.plan, self.data, self.tokens, self.anchors, self.base_W)
        sent = Sent(self.plan, self.data.key.window, self.sent)
        return account_of(*given, sent, marker=marker)

    def before(self, event: int) -> tuple[Shard, Event | None]:
        """Return the shard before an event, and the event; None for the end."""
        machine, left = self.machine(), event
        for one in self.data.events:
            if kind_of(one) is not None:
                if not left:
                    return machine.shard, one
                left -= 1
            machine.apply(one)
        return machine.shard, None

    def around(self, event: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Return the parts of the states before and after an event that sets an anchor, or is the end."""
        shard, one = self.before(event)
        before = shard.components()
        if isinstance(one, AnchorSet):
            return before, _changed(before, {ANCHOR: one.root})
        return before, _changed(before, {OFFERED: offered_component(())})

    def machine(self) -> Replay:
        """Return a replay that has not begun."""
        return Replay(self.plan, self.data, self.tokens, self.anchors, self.base_W)


class Step:
    """One step of a window, computed by its programs."""

    def __init__(
        self, window: Window, log: Log, event: int, account: Account, said: Said = as_it_is
    ) -> None:
        """``said``: what is stated of the values between what its programs take and make."""
        self._log, self._said = log, said
        shard, taken = log.before(event)
        assert isinstance(taken, StepTaken), "the event is a step"
        self._taken = taken
        self._params_P, self._moments = shard.params_P, shard.optimizer
        self.seen = shard.optimizer.step
        self.tokens = _tokens_in(shard)
        self.before = shard.components()
        facts = window.facts
        self._microbatch = microbatch_program_of(facts.spec, facts.stage)
        counted = len(self._taken.microbatches)
        self.number = step_number(window, account, event)
        """Number within the segment."""
        self._update = update_program_of(
            facts.spec, facts.stage, step_numbers(facts, self.number, self.seen, counted)
        )
        self._held = -1
        self._values: Values = []
        self._gradients = list[Tensor]()
        self.roots = list[list[Digest]]()
        """Digests of the values of each part: of every micro-batch, and of the update."""
        self.records = list[MicrobatchRecord]()
        for part in range(counted):
            traced = self.traced(part)
            self.roots.append(traced.roots)
            self._gradients.append(moved(traced.outputs["gradient"]))
            self.records.append(self._record(self._taken.microbatches[part], traced.roots))
        self.roots.append(self.traced(counted).roots)
        made = {PARAMS: "params", FIRST: "m", SECOND: "v"}
        computed = {part: self.digest(counted, name) for part, name in made.items()}
        after = after_step(facts, self.seen, self.tokens, counted) | computed
        self.after = tuple(map(Digest, _changed(self.before, after)))

    @property
    def taken(self) -> tuple[ComputedMicrobatch, ...]:
        """Its micro-batches, as the log has them."""
        return self._taken.microbatches

    @property
    def update(self) -> int:
        """Number of the part that is the update."""
        return len(self._taken.microbatches)

    def program(self, part: int) -> Program:
        """Return the program of a part."""
        return self._update if part == self.update else self._microbatch

    def given(self, part: int) -> dict[str, Tensor]:
        """Return the inputs of a part."""
        return self._given_update() if part == self.update else self._given_microbatch(part)

    def values(self, part: int) -> Values:
        """Return all values of a part; those of one part are kept."""
        if part != self._held:
            program, kernels = self.program(part), trusted_kernels().kernels
            watch = partial(self.watched, part)
            self._values, self._held = program.run(kernels, self.given(part), watch), part
        return self._values

    def traced(self, part: int) -> Traced:
        """Run the program of a part, and keep its digests."""
        program = self.program(part)
        said = partial(self._said, program, part)
        return Traced(program, self.given(part), partial(self.watched, part), said)

    def watched(self, part: int, number: int, value: Tensor) -> Tensor:
        """Return what stands in the place of a computed value: itself."""
        del part, number
        return value

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

    def _given_microbatch(self, part: int) -> dict[str, Tensor]:
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
                given[name] = _on_wire(message.payload)
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


class Traded:
    """A copy or a merge of a window: its program and the values of it."""

    def __init__(self, program: Program, given: Mapping[str, Tensor], said: Said) -> None:
        self.program, self._given = program, given
        self._said = partial(said, program, 0)
        self.values = program.run(trusted_kernels().kernels, given, self.watched)
        stated = [self._said(number, value) for number, value in enumerate(self.values)]
        self.roots = value_roots(program, stated)

    def traced(self) -> Traced:
        """Run the program again, and keep its digests."""
        return Traced(self.program, self._given, self.watched, self._said)

    def watched(self, number: int, value: Tensor) -> Tensor:
        """Return what stands in the place of a computed value: itself."""
        del number
        return value

    def digest(self, output: str) -> Digest:
        """Return the digest of an output; ``NO_DIGEST`` where there is none."""
        outputs = self.program.outputs
        return self.roots[outputs[output]] if output in outputs else NO_DIGEST

    def split(self, case: Case) -> tuple[bytes, ...]:
        """Return the first split of the trace."""
        move = Defence(self.program, self.values, self.roots).move(case, Walk())
        assert isinstance(move, Split), "a trace is split first"
        return move.hashes


class Copied(Traded):
    """One copy of a window, computed by its program."""

    def __init__(self, window: Window, log: Log, event: int, said: Said = as_it_is) -> None:
        shard, taken = log.before(event)
        assert isinstance(taken, SnapshotTaken), "the event is a copy"
        self._facts = facts = window.facts
        fragment = facts.spec.outer.fragment_of(taken.exchange)
        program = copy_program_of(facts.spec, facts.stage, fragment)
        super().__init__(program, {"params": shard.params_P}, said)
        opened = OpenCopy(
            account=NO_ACCOUNT,
            before=shard.components(),
            after=(),
            tokens=_tokens_in(shard),
            offered=_offered_in(shard),
            trades_over=tuple(shard.trades_over),
            exchange=taken.exchange,
            theta=self.digest("theta"),
            trace=merkle_root(self.roots),
            hashes=(),
        )
        after = _changed(opened.before, after_copy(facts, opened))
        self.said: OpenCopy = replace(opened, after=after)
        """Statement that opens it, without account and split."""

    def opened(self, account: Account) -> OpenCopy:
        """Return the statement that opens this copy of an account."""
        hashes = self.split(copy_case(self._facts, self.said))
        return replace(self.said, account=account, hashes=hashes)


class Merged(Traded):
    """One merge of a window, computed by its program."""

    def __init__(
        self,
        window: Window,
        log: Log,
        event: int,
        like: OpenMerge | None = None,
        said: Said = as_it_is,
    ) -> None:
        """``like``: a merge with the inputs of the log, whose codec for the partner may be another."""
        shard, merged = log.before(event)
        assert isinstance(merged, FragmentMerged), "the event is a merge"
        self._facts = facts = window.facts
        opened = _merge_in(log, shard, merged)
        if like is not None:
            opened = replace(opened, my_codec=like.my_codec, moves_residual=like.moves_residual)
        program = merge_program_of(facts.spec, facts.stage, numbers_of(facts, opened))
        super().__init__(program, _given_to_merge(shard, merged), said)
        weight = program.outputs.get("weight")
        opened = replace(
            opened,
            my_payload=self.digest("my_payload"),
            weight_nano=0 if weight is None else int(self.values[weight]),
            trace=merkle_root(self.roots),
        )
        parts = {"params": PARAMS, "phi": PHI, "outer_m": OUTER_M, "residual": RESIDUAL}
        made = {part: self.digest(name) for name, part in parts.items() if name in program.outputs}
        after = _changed(opened.before, after_merge(facts, opened) | made)
        self.said: OpenMerge = replace(opened, after=after)
        """Statement that opens it, without account and split."""

    def opened(self, account: Account) -> OpenMerge:
        """Return the statement that opens this merge of an account."""
        hashes = self.split(merge_case(self._facts, self.said))
        return replace(self.said, account=account, hashes=hashes)


def _merge_in(log: Log, shard: Shard, merged: FragmentMerged) -> OpenMerge:
    """Return what is said of a merge before it is computed."""
    plan, offer, snapshot = log.plan, merged.offer, shard.offered(merged.exchange)
    assert snapshot is not None, "a merge follows its offer"
    is_final = plan.is_final_averaging
    mine = fragment_payload(plan.spec, plan.round, snapshot, is_final_averaging=is_final)
    try:
        codec, residual = given_to_partner(mine, merged) or (None, None)
    except OtherBits:  # what was given is none of ours: in which codec, only its solver can say
        codec, residual = None, None
    partner = plan.seat(log.data.key.stage, merged.partner_seat)
    return OpenMerge(
        account=NO_ACCOUNT,
        before=shard.components(),
        after=(),
        tokens=_tokens_in(shard),
        offered=_offered_in(shard),
        trades_over=tuple(shard.trades_over),
        exchange=merged.exchange,
        partner=b"" if offer is None or partner is None else partner.peer,
        partner_seat=merged.partner_seat,
        my_payload=NO_DIGEST,
        partner_payload=NO_DIGEST if offer is None else offer.payload_hash,
        weight_nano=0,
        due_nano=merged.weight_nano,
        codec=None if offer is None else offer.codec,
        my_codec=codec,
        moves_residual=residual is not None and merged.receipt is not None,
        trace=b"",
        hashes=(),
    )


def _given_to_merge(shard: Shard, merged: FragmentMerged) -> dict[str, Tensor]:
    """Return the inputs of a merge."""
    fragment = shard.spec.outer.fragment_of(merged.exchange)
    return {
        "theta": shard.snapshots[fragment][2],
        "params": shard.params_P,
        "phi": shard.phi_P,
        "outer_m": shard.momentum_P,
        "residual": shard.residual_R,
        "anchor": shard.anchor_P,
        "payload": _on_wire(merged.payload),
    }


def _on_wire(payload: Bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(payload, np.uint8).copy())


def _tokens_in(shard: Shard) -> tuple[int, ...]:
    return (shard.tokens_total, *shard.tokens_at_sync)


def _offered_in(shard: Shard) -> tuple[Offered, ...]:
    held = sorted(shard.snapshots.values(), key=lambda one: one[0])
    return tuple((exchange, tokens, hash_of(theta)) for exchange, tokens, theta in held)


def _changed(before: Sequence[bytes], changed: Mapping[int, bytes]) -> tuple[bytes, ...]:
    return tuple(changed.get(part, digest) for part, digest in enumerate(before))
