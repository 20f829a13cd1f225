"""A simulated swarm in which one replica cheats for a while: what it gives the others, and what they take.

Its partners weigh each payload by the rule of nodes (training/averaging/robust.py): too far from their own
weights it counts for less, and in the final averaging it is declined. Everything else is as in simulated.py.

    boundary ``begin``    it begins to cheat; a false newcomer sits down here
    boundary ``end``      it is gone; a newcomer adopts the state of an honest replica, and only pulls at first
    no ``end``            it cheats in the final averaging, too

Nothing of what its partners took is undone: their training heals it, or does not.

Modelled: the codec of the run, the weights of a trade and their clipping, the decline of the final averaging,
who only pulls, that no checkpoint is drawn from segments that are not verified, and that who claims more tokens
gets more micro-batches once its commit is final.

Not modelled: values that are not finite or past 2^30, which are refused before they count, and which none of
these sends; the loss check, which only runs with a ``loss_margin`` have; standby partners, as all pulls arrive;
a seat that stays empty between a conviction and the next newcomer; several that cheat together. Checks find
nobody sooner than at ``end``, not even those whom one transaction convicts. A cheat takes what it is given.

Legend: P parameters of a shard, F values of a fragment, B sequences, T time.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from benchmarks.recipes import chosen
from benchmarks.replicas import Seat, adopt_state
from benchmarks.simulated import CODECS, Offered, Swarm
from benchmarks.variants import REPLICAS, Variant
from swarm.config.spec import NANO
from swarm.gossip.pairing import FinalTrade
from swarm.gossip.trade.messages import Codec, FragmentKey, Offer
from swarm.gossip.trade.payload import (
    FragmentPayload,
    ReceivedFragment,
    encode_payload,
    read_payload,
)
from swarm.primitives.randomness import RandomStream, stream
from swarm.training.averaging.outer_step import FragmentSnapshot, Merge, OuterState, Partner
from swarm.training.averaging.robust import Movements, clip_or_reject
from swarm.training.data.dataset import TokenSource
from swarm.training.model.stages import init_flat
from swarm.types import NO_DIGEST, RoundIndex, RunIndex, StageIndex

RECIPE = "muon_gossip_fast"
"""The default, but with five trades in a round of ten steps: packaged run files have six or seven in one."""
NOISE = 0.05
"""Deviation of the noise of a false start, as in tests/e2e/poisoner.py."""
FINAL_ROUNDS = 2
"""Rounds after which the tokens of a commit rule who gets how much work."""
BYTES = 256

Samples = tuple[Tensor, Tensor]
"""Inputs and labels of a micro-batch, both BT."""


def as_drawn(samples: Samples, dice: RandomStream) -> Samples:
    """Return the samples that are due."""
    del dice
    return samples


def one_wrong_label(samples: Samples, dice: RandomStream) -> Samples:
    """Return the samples with another label at one place."""
    inputs_BT, labels_BT = samples[0], samples[1].clone()
    place = dice.below(labels_BT.numel())
    row = labels_BT.view(-1)
    row[place] = (row[place] + 1 + dice.below(BYTES - 1)) % BYTES
    return inputs_BT, labels_BT


def random_text(samples: Samples, dice: RandomStream) -> Samples:
    """Return as many bytes that mean nothing, each labelled with the next."""
    rows, length = samples[0].shape
    drawn = torch.tensor(list(dice.bytes_(rows * (length + 1)))).view(rows, length + 1)
    return drawn[:, :-1].clone(), drawn[:, 1:].clone()


def own(theta: Tensor, given: Tensor, dice: RandomStream) -> Tensor:
    """Return a replica's own weights."""
    del given, dice
    return theta


def copied(theta: Tensor, given: Tensor, dice: RandomStream) -> Tensor:
    """Return what the last partner had given."""
    del theta, dice
    return given


def negative(theta: Tensor, given: Tensor, dice: RandomStream) -> Tensor:
    """Return the negative of a replica's weights."""
    del given, dice
    return -theta


def noise(theta: Tensor, given: Tensor, dice: RandomStream) -> Tensor:
    """Return normal values of deviation 1: a few times the size of weights."""
    del given
    return draw_normal(theta, dice)


@dataclass(frozen=True, slots=True)
class Adversary:
    """One way to cheat: what is false of a replica that does all else as it should."""

    name: str
    stages: int = 1
    """The cheat sits in the last one."""
    takes_steps: bool = True
    """False: it claims its steps and tokens, and its weights stay."""
    samples: Callable[[Samples, RandomStream], Samples] = as_drawn
    """The samples it trains on, made from those that are due."""
    gives: Callable[[Tensor, Tensor, RandomStream], Tensor] = own
    """The payload, made from its own weights and what was given to it last."""
    start_noise: float = 0.0
    """Deviation of the noise on its weights at each boundary."""
    adopts_falsely: bool = False
    """True: it says that it adopted a state, and has the initial weights of another seed."""
    answers: Callable[[Tensor], Tensor] = torch.Tensor.contiguous
    """The gradient that goes down, made from the true one."""
    claims: int = 1
    """Times its tokens that it says it trained."""


LEAVES = Adversary("left")
"""Honest, and gone at the same boundary as the others."""
ADVERSARIES = (
    Adversary("skips_steps", takes_steps=False),
    Adversary("poisons_label", samples=one_wrong_label),
    Adversary("other_data", samples=random_text),
    Adversary("copies_partner", takes_steps=False, gives=copied),
    Adversary("false_start", start_noise=NOISE),
    Adversary("false_adoption", adopts_falsely=True),
    Adversary("other_bytes", gives=negative),
    Adversary("garbage", gives=noise),
    Adversary("flipped_gradients", stages=2, answers=torch.neg),
    Adversary("inflated_tokens", stages=2, claims=REPLICAS),
)
"""Tokens: the most that the ledger takes of a seat in a later stage is what all seats of the first could send.
With one stage all replicas have as many tokens, and a partner has the weight of 1/2, which is the most, anyway.
"""


@dataclass(frozen=True, slots=True)
class Exposure:
    """When which way of cheating is used, in rounds."""

    adversary: Adversary
    begin: int
    end: int | None
    """Boundary at which it is gone; None: the run ends before."""


@dataclass(slots=True)
class Taken:
    """How payloads were taken that reached a partner."""

    payloads: int = 0
    clipped: int = 0
    """Taken at less than their due weight."""
    declined: int = 0
    weight: float = 0.0
    """Sum of the weights."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """State of a swarm at a boundary, from which several runs go on."""

    seats: list[list[Seat]]
    anchors: list[Tensor]
    movements: list[list[Movements]]
    given: list[Tensor]
    tokens: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run came to."""

    nats: float
    """Held-out, of the mean of the honest replicas as the final averaging left them."""
    worst_replica_nats: float
    """The same of each of them by itself; as the mean, unless a payload was declined at the end."""
    tokens: int
    """Claimed by all replicas."""
    from_cheat: Taken = field(default_factory=Taken)
    """Payloads of the cheat."""
    final: Taken = field(default_factory=Taken)
    """Payloads of the cheat in the final averaging."""
    others: Taken = field(default_factory=Taken)
    """Payloads of honest replicas, of the whole run behind the trunk."""


class CheatedSwarm(Swarm):
    """Replicas of which one may cheat; all weigh what they are given, as nodes do."""

    def __init__(
        self,
        stages: int,
        seed: int,
        steps: int,
        train: TokenSource,
        heldout: TokenSource,
        replicas: int = REPLICAS,
    ) -> None:
        super().__init__(variant_of(stages), seed, steps, train, heldout, replicas)
        self.seed = seed
        self.cheat = replicas - 1
        """Replica that cheats: the last, so that a partner has its payload before it takes the partner's."""
        self.stage = stages - 1
        """Stage of the cheat."""
        self.exposure: Exposure | None = None
        self.is_cheating = False
        self.movements = [[Movements() for _ in row] for row in self.seats]
        self.given = [seat.params_P.clone() for seat in self.seats[self.stage]]
        """What was given last to each replica in the stage of the cheat."""
        self.from_cheat, self.final, self.others = Taken(), Taken(), Taken()
        self._trades = 0

    # --- runs that share a beginning ---

    def trunk(self) -> Trunk:
        """Return a copy of the state; the swarm stands at a boundary."""
        parts = (self.seats, self.anchors, self.movements, self.given, self.found.tokens)
        return Trunk(*copy.deepcopy(parts))

    def branch(self, trunk: Trunk, exposure: Exposure | None) -> None:
        """Go back to a state, from which on a replica may cheat."""
        kept = copy.deepcopy(trunk)
        self.seats, self.anchors, self.movements = kept.seats, kept.anchors, kept.movements
        self.given, self.found.tokens = kept.given, kept.tokens
        self.exposure, self.is_cheating = exposure, False
        self.rosters[self.stage] = tuple((i, 0) for i in range(self.count))
        self.from_cheat, self.final, self.others = Taken(), Taken(), Taken()
        self._trades = 0

    def advance(self, begin: int, end: int) -> None:
        """Take the steps from ``begin`` to before ``end``."""
        for step in range(begin, end):
            self.take(step)

    def end(self, heldout_windows: int) -> Ended:
        """Average all replicas for the last time, and measure what the honest ones have then."""
        self._agree()
        honest = [
            [seat for i, seat in enumerate(row) if not self.cheats(s, i)]
            for s, row in enumerate(self.seats)
        ]
        mean_P = torch.cat([torch.stack([x.params_P for x in row]).mean(0) for row in honest])
        nats = worst = self.nats(mean_P, heldout_windows)
        if not all(torch.equal(x.params_P, row[0].params_P) for row in honest for x in row):
            models = zip(*honest, strict=False)
            flats = (torch.cat([seat.params_P for seat in model]) for model in models)
            worst = max(self.nats(flat_P, heldout_windows) for flat_P in flats)
        parts = (self.found.tokens, self.from_cheat, self.final, self.others)
        return Ended(nats, worst, *parts)

    # --- what is false ---

    def cheats(self, stage: int, index: int) -> bool:
        """Return True if this replica cheats now."""
        return self.is_cheating and (stage, index) == (self.stage, self.cheat)

    def begin_round(self, round_index: int) -> None:
        """Cross a boundary, at which a cheat may begin, start falsely, or be gone."""
        super().begin_round(round_index)
        exposure, row = self.exposure, self.seats[self.stage]
        if exposure is None or round_index < exposure.begin:
            return
        adversary, age = exposure.adversary, round_index - exposure.begin
        dice = stream(self.beacon, "bench.cheat", round_index)
        if round_index == exposure.end:
            self._replace(round_index, row[dice.choice(range(self.cheat))])
        self.is_cheating = exposure.end is None or round_index < exposure.end
        if self.is_cheating and adversary.adopts_falsely and age == 0:
            self._replace(round_index, None)
        if self.is_cheating and adversary.start_noise:
            seat = row[self.cheat]
            seat.params_P += adversary.start_noise * draw_normal(seat.params_P, dice)
            seat.phi_P = seat.params_P.clone()
        claims = adversary.claims if self.is_cheating and age >= FINAL_ROUNDS else 1
        self.rosters[self.stage] = tuple(
            (i, claims if i == self.cheat else 1) for i in range(self.count)
        )

    def _replace(self, round_index: int, source: Seat | None) -> None:
        """Put a newcomer into the seat of the cheat, with this state or with a false one."""
        row = self.seats[self.stage]
        row[self.cheat] = seat = self._newcomer(self.stage, round_index)
        self.movements[self.stage][self.cheat] = Movements()
        if source is not None:
            adopt_state(seat, source)
            return
        false_P = init_flat(self.stages[self.stage].plan, self.seed + 1)
        seat.params_P, seat.phi_P = false_P, false_P.clone()

    def _settled(self, order: list[int], round_index: int) -> list[int]:
        """Leave out whose last segments would not be verified: no checkpoint is drawn from them."""
        exposure = self.exposure
        settled = super()._settled(order, round_index)
        if exposure is None or round_index <= exposure.begin:
            return settled
        is_over = exposure.end is not None and round_index > exposure.end
        return settled if is_over else [i for i in settled if i != self.cheat]

    def _samples(self, origin: int, step: int) -> Samples:
        samples = super()._samples(origin, step)
        if self.exposure is None or not self.cheats(0, origin):
            return samples
        dice = stream(self.beacon, "bench.cheat-samples", step)
        return self.exposure.adversary.samples(samples, dice)

    def _optimize(
        self, stage: int, index: int, grad_P: Tensor, round_index: int, inner: int
    ) -> None:
        is_idle = self.exposure is not None and not self.exposure.adversary.takes_steps
        if is_idle and self.cheats(stage, index):
            return
        super()._optimize(stage, index, grad_P, round_index, inner)

    def _answered(self, stage: int, index: int, grad: Tensor) -> Tensor:
        if self.exposure is None or not self.cheats(stage, index):
            return grad
        return self.exposure.adversary.answers(grad)

    def _tokens_since(self, offered: Offered, index: int) -> int:
        tokens = super()._tokens_since(offered, index)
        if self.exposure is None or not self.cheats(offered.stage, index):
            return tokens
        return tokens * self.exposure.adversary.claims

    def _false(self, theta: Tensor) -> Tensor:
        """Return what the cheat gives instead of its weights."""
        assert self.exposure is not None, "somebody cheats"
        self._trades += 1
        dice = stream(self.beacon, "bench.cheat-payload", self._trades)
        return self.exposure.adversary.gives(theta, self.given[self.cheat], dice)

    # --- what is taken ---

    def _partner(
        self,
        offered: Offered,
        receiver: int,
        sender: int,
        hats: Mapping[int, Tensor],
        slow: Sequence[OuterState],
    ) -> Partner | None:
        """Take the payload as a node does, after its distance from the receiver's weights."""
        stage = offered.stage
        if self.cheats(stage, sender):
            hats = {**hats, sender: self._coded(offered, self._false(offered.thetas[sender]))}
        partner = super()._partner(offered, receiver, sender, hats, slow)
        assert partner is not None, "nothing is declined below"
        if stage == self.stage:
            self.given[receiver] = hats[sender]
        taken = self.from_cheat if self.cheats(stage, sender) else self.others
        if self.cheats(stage, receiver):
            return partner
        merge = self._merge(offered, receiver, slow[receiver].phi_F)
        merge = replace(
            merge,
            theta_hat_P=hats[sender],
            weight_nano=round(partner.weight * NANO),
            received=_received(self._tokens_since(offered, sender), CODECS[self.variant.codec]),
        )
        weight = self._weighed(self.movements[stage][receiver], merge, taken)
        return replace(partner, weight=weight) if weight else None

    def _alone(self, offered: Offered, receiver: int, slow: OuterState) -> None:
        merge = self._merge(offered, receiver, slow.phi_F)
        clip_or_reject(merge, self.movements[offered.stage][receiver], None, None, self.spec.outer)

    def _final_partner(
        self, stage: int, before: Sequence[Tensor], receiver: int, trade: FinalTrade
    ) -> Partner | None:
        """Take or decline a partner's weights in a round of final averaging."""
        sender, taken = trade.partner.index, self.others
        hat_P = before[sender]
        if self.cheats(stage, sender):
            hat_P, taken = self._false(hat_P), self.final
        if stage == self.stage:
            self.given[receiver] = hat_P
        if self.cheats(stage, receiver):
            return Partner(hat_P, trade.weight_nano / NANO)
        merge = replace(
            self._solo(_snapshot(before[receiver], before[receiver], before[receiver])),
            theta_hat_P=hat_P,
            weight_nano=trade.weight_nano,
            received=_received(0, Codec.F32),
            is_final_averaging=True,
        )
        weight = self._weighed(self.movements[stage][receiver], merge, taken)
        return Partner(hat_P, weight) if weight else None

    def _coded(self, offered: Offered, theta_F: Tensor) -> Tensor:
        """Return a payload as its receiver reads it."""
        anchor_F = self.anchors[offered.stage][self.spans[offered.stage][offered.fragment].slice]
        codec = CODECS[self.variant.codec]
        payload, _ = encode_payload(FragmentPayload(theta_F, anchor_F, NO_DIGEST, 0, 0), codec)
        return read_payload(codec, payload, anchor_F)

    def _merge(self, offered: Offered, receiver: int, phi_F: Tensor) -> Merge:
        """Return the solo step of a replica, with all that counts where a partner is weighed."""
        anchor_F = self.anchors[offered.stage][self.spans[offered.stage][offered.fragment].slice]
        tokens = self._tokens_since(offered, receiver)
        theta_F, fragment = offered.thetas[receiver], offered.fragment
        return self._solo(_snapshot(theta_F, phi_F, anchor_F, fragment, tokens))

    def _solo(self, snapshot: FragmentSnapshot) -> Merge:
        return Merge.solo(snapshot, self._scalars(0))

    def _weighed(self, distances: Movements, merge: Merge, taken: Taken) -> float:
        """Return the weight at which a node takes a payload; 0: it declines it, and steps alone."""
        after = clip_or_reject(merge, distances, None, None, self.spec.outer)
        taken.payloads += 1
        taken.clipped += 0 < after.weight_nano < merge.weight_nano
        taken.declined += after.weight_nano == 0 < merge.weight_nano
        taken.weight += after.weight_nano / NANO
        return after.weight_nano / NANO


def _snapshot(
    theta: Tensor, phi: Tensor, anchor: Tensor, fragment: int = 0, tokens: int = 0
) -> FragmentSnapshot:
    return FragmentSnapshot(
        exchange=0,
        fragment=fragment,
        theta_P=theta,
        anchor_P=anchor,
        anchor_root=NO_DIGEST,
        tokens=tokens,
        step=0,
        phi_P=phi,
        residual_P=theta[:0],
    )


def _received(tokens: int, codec: Codec) -> ReceivedFragment:
    """Return what tells of a payload, which travels beside it here."""
    offer = Offer(
        key=FragmentKey(RunIndex(0), StageIndex(0), 0, RoundIndex(0), 0),
        incarnation=0,
        step=0,
        tokens=tokens,
        codec=codec,
        anchor_root=NO_DIGEST,
        payload_hash=NO_DIGEST,
        num_bytes=0,
        wire_bytes=0,
        chunk_root=NO_DIGEST,
        signature=b"",
    )
    return ReceivedFragment(offer, b"", torch.empty(0))


def variant_of(stages: int) -> Variant:
    """Return the recipe, with as many stages; micro-batches go along random paths, and in bfloat16."""
    if stages == 1:
        return chosen(RECIPE)
    return replace(chosen(RECIPE), stages=stages, random_paths=True, wire="bf16")


def draw_normal(like: Tensor, dice: RandomStream) -> Tensor:
    """Return as many normal values of deviation 1."""
    generator = torch.Generator().manual_seed(dice.below(1 << 63))
    return torch.randn(like.shape, generator=generator)
