"""Run a ledger in memory, without consensus or network, and make synthetic segments and their statements.

Core: a function of its arguments: real keys, real blocks, real certificates. The keys are derived from small
numbers and protect nothing.

Simulations, dry runs and the tests of every package that reads a state use it. The results of a synthetic
segment are invented, but hash to its commit as real ones do; the statements are those of its solver and
verifiers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from swarm.config.bounds import SEATS_MAX
from swarm.config.spec import (
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
    StageStart,
    WireSpec,
)
from swarm.errors import UsageError
from swarm.ledger.blocks import (
    FINALIZE,
    VOTE_PURPOSES,
    Block,
    Certificate,
    block_digest,
    vote_parts,
)
from swarm.ledger.chain import Head, compose_block, extend, genesis_head
from swarm.ledger.check_statements import (
    PANEL,
    ContestService,
    DataRequest,
    DisputeMove,
    Report,
    RevealSegment,
    VerifyCommit,
    VerifyReveal,
    WitnessService,
)
from swarm.ledger.state.records import Run, SegmentRecord
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body, CommitSegment, FreeStatement, OpenRun, sign_transaction
from swarm.ledger.transition.prices import sufficient_fee
from swarm.ledger.transition.runs import boundary_height
from swarm.ledger.transition.sampling import (
    check_eligible,
    drawn_witness,
    is_drawn,
    num_windows,
    panel_dice,
    prove_draw,
)
from swarm.ledger.transition.starts import made_root
from swarm.primitives.codec import encode
from swarm.primitives.codec import replace as changed
from swarm.primitives.commitments import (
    SALT_BYTES,
    WindowResult,
    trace_commit,
    trace_root,
    verify_commit,
)
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.merkle import merkle_root
from swarm.primitives.state_parts import COMPONENTS
from swarm.types import NO_DIGEST, Amount, Digest, PeerId, RoundIndex, RunIndex, StageIndex, View

BALANCE = Amount(1_000_000)
STAKE = Amount(1_000)
BLOCKS_MADE_MAX = 4_096
"""Blocks that are remembered in one process: the tests of a package begin with the same few hundred."""
_MADE: dict[tuple[Digest, tuple[bytes, ...], int], tuple[Head, tuple[Block, Certificate]]] = {}
"""Blocks composed and validated before, by parent, transactions and skipped views, which decide them."""


def forget_blocks() -> None:
    """Forget the blocks that were made: where a test changes a rule, they do not follow from their parents."""
    _MADE.clear()


def numbered_key(number: int) -> SecretKey:
    """Return the test key of a number: the same everywhere, and therefore not secret."""
    return SecretKey.from_seed(digest("rehearsal-key", number.to_bytes(8, "big")))


def small_run_spec(**changes: object) -> RunSpec:
    """Return a spec of two stages of up to three replicas and six rounds of four blocks, with ``changes``."""
    spec = RunSpec(
        name="rehearsal",
        model=ModelSpec(
            vocab_size=256,
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            num_kv_heads=2,
            intermediate_size=64,
            seq_len=32,
            rope_theta=10_000,
            norm_eps_nano=10_000,
        ),
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
    )
    spec = changed(spec, **changes)
    start = StageStart(digest("rehearsal", b"init"), 1_000, 1_000, 0)
    stages = min(max(spec.num_stages, 0), SEATS_MAX)
    return spec if spec.starts else changed(spec, starts=(start,) * stages)


def make_genesis(num_accounts: int, num_validators: int, **changes: object) -> Genesis:
    """Return a genesis in which the first keys have accounts, and the first of these are validators."""
    peers = [numbered_key(i).peer for i in range(num_accounts)]
    genesis = Genesis(
        name="rehearsal",
        accounts=tuple(GenesisAccount(peer, BALANCE, STAKE) for peer in sorted(peers)),
        validators=tuple(sorted(peers[:num_validators])),
        block_interval_ms=1_000,
        epoch_blocks=60,
        beacon_delay=2,
        unbonding_epochs=3,
        stake_segments=60,
        validator_stake=Amount(500),
        fee_min=Amount(2),
        fee_per_byte_nano=NANO // 100,
        seed=bytes(32),
    )
    return changed(genesis, **changes)


class InMemoryLedger:
    """In-memory test ledger: a chain of final blocks, extended by its caller."""

    def __init__(self, num_accounts: int = 4, num_validators: int = 1, **changes: object) -> None:
        self.genesis = make_genesis(num_accounts, num_validators, **changes)
        self.head: Head = genesis_head(self.genesis)
        self.links: list[tuple[Block, Certificate]] = []
        self.keys = [numbered_key(i) for i in range(max(num_accounts, 32))]
        self.num_validators = num_validators
        """Invented states from which a segment may continue, by root: the name behind it, and its tokens."""

    @property
    def state(self) -> State:
        """The latest state."""
        return self.head.state

    def key_of(self, peer: bytes) -> SecretKey:
        """Return the secret key of a peer of this test ledger."""
        return next(key for key in self.keys if key.peer == peer)

    def sign(self, key: SecretKey, body: Body, **envelope: int) -> bytes:
        """Return an encoded transaction with the next nonce and enough fee; ``envelope`` overrides."""
        if isinstance(body, FreeStatement):
            return sign_transaction(key, self.state.chain, body, **envelope)
        defaults = {
            "nonce": self.state.account(key.peer).nonce + 1,
            "fee": sufficient_fee(self.state.params, body),
            "expiry": self.state.height + self.genesis.epoch_blocks // 2,
        }
        return sign_transaction(key, self.state.chain, body, **{**defaults, **envelope})

    def block(self, *transactions: bytes, skipped: int = 0) -> State:
        """Make the next block, validate it as another node would, and make it final.

        ``skipped`` views before it had no block. Validators lead in turns, not in the order of consensus.
        """
        key = (self.head.digest, transactions, skipped)
        if key not in _MADE:
            voters = self.state.validators
            leader = self.key_of(voters[self.state.height % len(voters)].peer)
            view = View(self.state.globals.view + 1 + skipped)
            block, _ = compose_block(self.head, transactions, leader, view)
            head = extend(self.head, block)
            if len(_MADE) >= BLOCKS_MADE_MAX:
                del _MADE[next(iter(_MADE))]
            _MADE[key] = head, (block, self.certificate(block))
        self.head, link = _MADE[key]
        self.links.append(link)
        return self.state

    def certificate(self, block: Block) -> Certificate:
        """Return a finalization of ``block`` with the vote of every validator."""
        view, name = block.header.view, block_digest(block.header)
        parts = vote_parts(self.state.chain, block.header.epoch, view, name)
        voters = [self.key_of(validator.peer) for validator in self.state.validators]
        votes = tuple(key.sign(VOTE_PURPOSES[FINALIZE], *parts) for key in voters)
        return Certificate(FINALIZE, view, name, (1 << len(voters)) - 1, votes)

    def empty_blocks(self, count: int) -> State:
        """Make ``count`` blocks without transactions."""
        for _ in range(count):
            self.block()
        return self.state

    def open_run(self, spec: RunSpec, *, escrow: int = 100_000) -> Run:
        """Open a run owned by key 0."""
        self.block(self.sign(self.keys[0], OpenRun(encode(spec), Amount(escrow))))
        return self.state.run(RunIndex(self.state.globals.num_runs))

    def reach_round(self, run: Run, round_: int) -> Run:
        """Make empty blocks up to the boundary of a round."""
        self.empty_blocks(boundary_height(run, round_) - self.state.height)
        return self.state.run(run.index)

    def commit(
        self, run: Run, round_: int, stage: int, seat: int, **changes: object
    ) -> CommitSegment:
        """Return the commit of a seat for a round, continuing from the seat's last end."""
        rounds = [RoundIndex(info.round) for info in self.state.run(run.index).rounds]
        known = [
            segment.end_root
            for earlier in rounds
            if earlier < round_
            for segment in self.state.segments(self.state.run(run.index), earlier)
            if (segment.stage, segment.seat) == (stage, seat)
        ]
        seats = self.state.run(run.index).seats[stage]
        known += [one.last_end_root for one in seats if one.index == seat and not known]
        start = known[-1] if known and known[-1] != NO_DIGEST else b""
        name = encode((run.index, round_, stage, seat))
        body = CommitSegment(
            run=run.index,
            round=RoundIndex(round_),
            stage=StageIndex(stage),
            seat=seat,
            incarnation=0,
            start=start,
            end_root=merkle_root(end_components(name)),
            trace_commit=digest("trace", name),
            sent_root=NO_DIGEST,
            num_steps=10,
            tokens=5_000,
        )
        return changed(body, **changes)

    def commit_all(self, run: Run, round_: int) -> tuple[bytes, ...]:
        """Return signed commits of the whole roster of a round."""
        info = next(i for i in self.state.run(run.index).rounds if i.round == round_)
        return tuple(
            self.sign(self.key_of(seat.peer), self.commit(run, round_, seat.stage, seat.index))
            for roster in info.seats
            for seat in roster
        )


def end_components(name: bytes) -> list[Digest]:
    """Return the invented parts of the state at the end of a segment; ``name`` encodes its coordinates."""
    return [digest("component", name, bytes([index])) for index in range(COMPONENTS)]


SALT = bytes(range(16))


@dataclass(frozen=True)
class CheckedSegment:
    """A segment with everything its solver knows about it."""

    commit: CommitSegment
    results: tuple[WindowResult, ...]
    """Results of its windows."""

    def reveal(self, **changes: object) -> RevealSegment:
        """Return the solver's reveal."""
        c = self.commit
        body = RevealSegment(
            run=c.run,
            round=c.round,
            stage=c.stage,
            seat=c.seat,
            salt=SALT,
            leaves_roots=tuple(result.leaves_root for result in self.results),
            state_roots=tuple(result.start_root for result in self.results[1:]),
            tokens=tuple(result.tokens for result in self.results),
        )
        return changed(body, **changes)

    def with_results(self, results: Sequence[WindowResult]) -> "CheckedSegment":
        """Return the segment with other results, and a commit that matches them."""
        hidden = trace_commit(trace_root([result.claim for result in results]), SALT)
        return CheckedSegment(changed(self.commit, trace_commit=hidden), tuple(results))

    def with_lie(self, window: int) -> "CheckedSegment":
        """Return the same segment with a false leaf in a window, and a matching commit."""
        results = list(self.results)
        wrong = digest("lie", results[window].leaves_root)
        results[window] = changed(results[window], leaves_root=wrong)
        return self.with_results(results)

    def record(self, state: State) -> SegmentRecord:
        """Return the record on the ledger; raise ``UsageError`` if there is none, or none any more."""
        c = self.commit
        found = state.segment(c.run, c.round, c.stage, c.seat)
        if found is None:
            raise UsageError("this segment is not on the ledger")
        return found

    def request(self, state: State, key: SecretKey, attempt: int = 0) -> DataRequest | None:
        """Return the request of a verifier, or None if it is not drawn.

        Raises ``InvalidStatement`` if it is not eligible.
        """
        record = self.record(state)
        draw, spec = record.draws[attempt], state.run(record.run).spec
        stake = check_eligible(state, record, spec, key.peer)
        proof = prove_draw(key, state.chain, draw)
        if not is_drawn(state.chain, draw, record, key.peer, stake, proof):
            return None
        c = self.commit
        return DataRequest(
            run=c.run,
            round=c.round,
            stage=c.stage,
            seat=c.seat,
            attempt=attempt,
            proof=proof,
        )

    def offer(self, state: State, key: SecretKey) -> DataRequest | None:
        """Return the offer of a peer to sit on the panel of the segment, or None if it is not drawn.

        Raises ``InvalidStatement`` if it is not eligible.
        """
        c, record = self.commit, self.record(state)
        panel, chain = record.panel, state.chain
        assert panel is not None, "a doubted segment has a panel"
        stake = check_eligible(state, record, state.run(record.run).spec, key.peer)
        proof = prove_draw(key, chain, panel.draws[-1])
        if panel_dice(chain, panel, record, key.peer, stake, proof) is None:
            return None
        return DataRequest(
            run=c.run,
            round=c.round,
            stage=c.stage,
            seat=c.seat,
            attempt=PANEL,
            proof=proof,
        )

    def rejecting(self) -> "CheckedSegment":
        """Return the segment as who rejects every window of it answers."""
        nothing = WindowResult(NO_DIGEST, NO_DIGEST, NO_DIGEST, 0)
        return CheckedSegment(self.commit, (nothing,) * len(self.results))

    def blind(self, state: State, peer: PeerId, window: int) -> VerifyCommit:
        """Return the blind answer of a verifier whose replay gives this result."""
        c = self.commit
        return VerifyCommit(
            run=c.run,
            round=c.round,
            stage=c.stage,
            seat=c.seat,
            check=self.check_of(state, peer),
            window=window,
            commitment=verify_commit(self.claim_of(state, window), verifier_salt(peer), peer),
        )

    def claim_of(self, state: State, window: int) -> Digest:
        """Return the claim of a verifier: without leaves in a run without exact numerics."""
        result = self.results[window]
        is_exact = state.run(self.commit.run).spec.is_exact
        return (result if is_exact else changed(result, leaves_root=NO_DIGEST)).claim

    def shown(self, state: State, peer: PeerId, window: int) -> VerifyReveal:
        """Return the answer that such a verifier, or a reporter, shows."""
        c, claim = self.commit, self.claim_of(state, window)
        claims = self.record(state).claims
        is_same = bool(claims) and claims[window] == claim
        return VerifyReveal(
            run=c.run,
            round=c.round,
            stage=c.stage,
            seat=c.seat,
            check=self.check_of(state, peer),
            salt=verifier_salt(peer),
            claim=b"" if is_same else claim,
        )

    def check_of(self, state: State, peer: PeerId) -> int:
        """Return the place of a peer's check in the record; that of a new one if it has none."""
        peers = [check.peer for check in self.record(state).checks]
        return peers.index(peer) if peer in peers else len(peers)

    def _hidden(self, peer: PeerId, window: int) -> Digest:
        return verify_commit(self.results[window].claim, verifier_salt(peer), peer)

    def complaint(self, state: State, peer: PeerId) -> ContestService:
        """Return the complaint of a verifier that was not served."""
        c, place = self.commit, self.check_of(state, peer)
        window = self.record(state).checks[place].window
        return ContestService(
            run=c.run, round=c.round, stage=c.stage, seat=c.seat, check=place, window=window
        )

    def witness(self, state: State, key: SecretKey, *, is_served: bool) -> WitnessService | None:
        """Return what a witness of the open complaint says, or None if it is not drawn.

        Raises ``InvalidStatement`` if it is not eligible.
        """
        c, record = self.commit, self.record(state)
        case = record.contests[-1]
        stake = check_eligible(state, record, state.run(record.run).spec, key.peer)
        assert case.draw is not None, "its beacon is there"
        proof = prove_draw(key, state.chain, case.draw)
        if not drawn_witness(state.chain, case, record, key.peer, stake, proof):
            return None
        return WitnessService(
            run=c.run,
            round=c.round,
            stage=c.stage,
            seat=c.seat,
            check=case.check,
            is_served=is_served,
            proof=proof,
        )

    def move(self, window: int, move: bytes = b"") -> DisputeMove:
        """Return a move of one side."""
        c = self.commit
        return DisputeMove(
            run=c.run, round=c.round, stage=c.stage, seat=c.seat, window=window, move=move
        )

    def report(self, peer: PeerId, window: int) -> Report:
        """Return the blind report of a peer whose replay gives this result; ``shown`` gives its reveal."""
        c = self.commit
        return Report(
            run=c.run,
            round=c.round,
            stage=c.stage,
            seat=c.seat,
            window=window,
            commitment=self._hidden(peer, window),
        )


def verifier_salt(peer: PeerId) -> bytes:
    """Return the salt with which a peer hides its answers here."""
    return digest("verifier-salt", peer)[:SALT_BYTES]


def begun_from(run: Run, commit: CommitSegment) -> Digest:
    """Return the root of the state that a segment begins with: named in full, or made."""
    return Digest(commit.start) if commit.start else made_root(run, commit)


def make_segment(
    stage: InMemoryLedger, run: Run, round_: int, stage_index: int, seat: int, **changes: object
) -> CheckedSegment:
    """Return a segment that a seat could commit, with a result for each of its windows.

    It continues from the seat's last segment made here, or from a state that no seat has committed.
    """
    commit = stage.commit(run, round_, stage_index, seat, **changes)
    name = encode((commit.run, commit.round, commit.stage, commit.seat))
    count = num_windows(commit.num_steps, run.spec.checks.window_steps)
    middles = [digest("state", name, bytes([window])) for window in range(1, count)]
    states = [begun_from(run, commit), *middles, commit.end_root]
    tokens = [commit.tokens // count] * (count - 1)
    tokens.append(commit.tokens - sum(tokens))
    results = [
        WindowResult(digest("leaves", name, bytes([window])), start, end, tokens[window])
        for window, (start, end) in enumerate(pairwise(states))
    ]
    return CheckedSegment(commit, ()).with_results(results)
