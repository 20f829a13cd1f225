"""A ledger in one process: real keys, real blocks, real certificates, no consensus and no network.

Core: a function of its arguments. Simulations, dry runs and the tests of every room that reads a state
stand on it; the keys are made from small numbers and protect nothing.
"""

from swarm.codec import encode, replace
from swarm.crypto import SecretKey, digest
from swarm.ledger.blocks import (
    FINALIZE,
    VOTE_PURPOSES,
    Block,
    Certificate,
    block_digest,
    vote_parts,
)
from swarm.ledger.chain import Head, compose_block, extend, genesis_head
from swarm.ledger.economics import sufficient_fee
from swarm.ledger.records import Run
from swarm.ledger.runs import boundary_height
from swarm.ledger.state import State
from swarm.ledger.transactions import (
    Body,
    CommitSegment,
    OpenRun,
    SeatStatement,
    sign_transaction,
)
from swarm.spec import (
    NANO,
    CheckSpec,
    DataSpec,
    DeadlineSpec,
    Genesis,
    GenesisAccount,
    ModelSpec,
    OptimizerSpec,
    OuterSpec,
    RunSpec,
    WireSpec,
)
from swarm.types import Amount, Digest, RoundIndex, RunIndex, StageIndex, View

BALANCE = Amount(1_000_000)
STAKE = Amount(1_000)


def rehearsal_key(number: int) -> SecretKey:
    """Key number ``number``: the same everywhere, and therefore worth nothing."""
    return SecretKey.from_seed(digest("rehearsal-key", number.to_bytes(8, "big")))


def small_run_spec(**changes: object) -> RunSpec:
    """Two stages of up to three replicas, six rounds of four blocks."""
    spec = RunSpec(
        name="rehearsal",
        model=ModelSpec(256, 32, 2, 2, 2, 64, 32, 10_000, 10_000),
        num_stages=2,
        replicas_max=3,
        microbatch_size=2,
        microbatches_per_step=4,
        inner_steps_max=50,
        round_blocks=4,
        rounds=6,
        checkpoint_rounds=2,
        optimizer=OptimizerSpec(
            beta1_nano=NANO * 9 // 10,
            beta2_nano=NANO * 95 // 100,
            eps_nano=10,
            weight_decay_nano=NANO // 10,
            clip_norm_nano=NANO,
            learning_rates_nano=(1_000_000,),
            learning_rate_stride=1,
        ),
        outer=OuterSpec(
            alpha_nano=NANO // 2,
            beta_nano=NANO * 7 // 10,
            gamma_nano=NANO * 7 // 10,
            alpha_ramp_rounds=1,
            age_weights_nano=(NANO, NANO // 2),
            fragments=2,
            pull_only_rounds=1,
            num_retries=1,
            codec="int8",
        ),
        wire=WireSpec("bf16"),
        data=DataSpec("bytes", digest("rehearsal", b"train"), 1 << 20, digest("x", b""), 1 << 16),
        deadlines=DeadlineSpec(1_000, 300, 2_000),
        checks=CheckSpec(NANO, 10, 120),
        numerics="native",
        seed=0,
        init_root=digest("rehearsal", b"init"),
    )
    return replace(spec, **changes)


def rehearsal_genesis(num_accounts: int, num_validators: int, **changes: object) -> Genesis:
    """A genesis in which the first keys have accounts, and the first of these vote."""
    peers = [rehearsal_key(i).peer for i in range(num_accounts)]
    genesis = Genesis(
        name="rehearsal",
        accounts=tuple(GenesisAccount(peer, BALANCE, STAKE) for peer in sorted(peers)),
        validators=tuple(sorted(peers[:num_validators])),
        block_interval_ms=1_000,
        epoch_blocks=60,
        beacon_delay=2,
        unbonding_epochs=3,
        stake_segments=60,
        fee_min=Amount(2),
        fee_per_byte_nano=NANO // 100,
        seed=bytes(32),
    )
    return replace(genesis, **changes)


class Rehearsal:
    """A chain of final blocks, extended by hand."""

    def __init__(self, num_accounts: int = 4, num_validators: int = 1, **changes: object) -> None:
        self.genesis = rehearsal_genesis(num_accounts, num_validators, **changes)
        self.head: Head = genesis_head(self.genesis)
        self.links: list[tuple[Block, Certificate]] = []
        self.keys = [rehearsal_key(i) for i in range(max(num_accounts, 32))]
        self.num_validators = num_validators
        self.ends: dict[Digest, tuple[bytes, int]] = {}
        """The rehearsed states that a segment may go on from: what they are made of, and their tokens."""

    @property
    def state(self) -> State:
        """The latest state."""
        return self.head.state

    def key_of(self, peer: bytes) -> SecretKey:
        """The secret of a peer of this rehearsal."""
        return next(key for key in self.keys if key.peer == peer)

    def sign(self, key: SecretKey, body: Body, **envelope: int) -> bytes:
        """An encoded transaction with the next nonce and enough fee, unless ``envelope`` says else."""
        if isinstance(body, SeatStatement):
            return sign_transaction(key, self.state.chain, body, **envelope)
        given = {
            "nonce": self.state.account(key.peer).nonce + 1,
            "fee": sufficient_fee(self.state.params, body),
            "expiry": self.state.height + self.genesis.epoch_blocks // 2,
        }
        return sign_transaction(key, self.state.chain, body, **{**given, **envelope})

    def block(self, *transactions: bytes) -> State:
        """Make the next block, check it as a stranger would, and make it final."""
        leader = self.keys[self.state.height % self.num_validators]
        view = View(self.state.height + 1)
        block, _ = compose_block(self.head, transactions, leader, view)
        self.head = extend(self.head, block)
        self.links.append((block, self.certificate(block)))
        return self.state

    def certificate(self, block: Block) -> Certificate:
        """Every validator's vote to finalize ``block``."""
        view, name = block.header.view, block_digest(block.header)
        parts = vote_parts(self.state.chain, view, name)
        voters = [self.key_of(validator.peer) for validator in self.state.validators]
        votes = tuple(key.sign(VOTE_PURPOSES[FINALIZE], *parts) for key in voters)
        return Certificate(FINALIZE, view, name, (1 << len(voters)) - 1, votes)

    def empty_blocks(self, count: int) -> State:
        """Make blocks without transactions."""
        for _ in range(count):
            self.block()
        return self.state

    def open_run(self, spec: RunSpec, *, escrow: int = 10_000) -> Run:
        """Open a run of key 0."""
        self.block(self.sign(self.keys[0], OpenRun(encode(spec), Amount(escrow))))
        return self.state.run(RunIndex(self.state.globals.num_runs))

    def reach_round(self, run: Run, round_: int) -> Run:
        """Make empty blocks up to the boundary of a round."""
        self.empty_blocks(boundary_height(run, round_) - self.state.height)
        return self.state.run(run.index)

    def commit(
        self, run: Run, round_: int, stage: int, seat: int, **changes: object
    ) -> CommitSegment:
        """What the holder of a seat would say after a round, continuing where it was."""
        rounds = [RoundIndex(info.round) for info in self.state.run(run.index).rounds]
        known = [
            segment.end_root
            for earlier in rounds
            if earlier < round_
            for segment in self.state.segments(self.state.run(run.index), earlier)
            if (segment.stage, segment.seat) == (stage, seat)
        ]
        start = known[-1] if known else run.spec.init_root
        name = encode((run.index, round_, stage, seat))
        body = CommitSegment(
            run=run.index,
            round=RoundIndex(round_),
            stage=StageIndex(stage),
            seat=seat,
            incarnation=0,
            start_root=start,
            end_root=digest("end", name),
            trace_commit=digest("trace", name),
            inbox_root=digest("in", name),
            outbox_root=digest("out", name),
            gossip_root=digest("gossip", name),
            num_steps=10,
            tokens=5_000,
        )
        return replace(body, **changes)

    def commit_all(self, run: Run, round_: int) -> tuple[bytes, ...]:
        """Signed commits of the whole roster of a round."""
        info = next(i for i in self.state.run(run.index).rounds if i.round == round_)
        return tuple(
            self.sign(self.key_of(seat.peer), self.commit(run, round_, seat.stage, seat.index))
            for roster in info.seats
            for seat in roster
        )
