"""A segment in a run whose checks look at elements, and verifiers that say of it what they like."""

from dataclasses import dataclass

from swarm.config.spec import NANO, SPOTS, CheckSpec
from swarm.ledger.check_statements import VerifyCommit, VerifyReveal
from swarm.ledger.state.records import Check, SegmentPhase
from swarm.ledger.transition.forced import seed_for
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import spot_answer, verify_commit
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import SALT, CheckedSegment, InMemoryLedger, verifier_salt
from swarm.types import PeerId
from swarm.verify.spots.statement import SpotStatement
from tests.ledger.checking import EXACT, Case, a_case

OFTEN = CheckSpec(NANO, 1, 60, way=SPOTS, forced_nano=NANO // 2)
"""Half of the statements are to be false."""


def signed(
    ledger: InMemoryLedger, segment: CheckedSegment, by: SecretKey, to: PeerId, window: int
) -> SpotStatement:
    """What a solver signs of a window for a peer, without the window: its claim alone is right."""
    c = segment.commit
    unsigned = SpotStatement(
        run=c.run,
        round=c.round,
        stage=c.stage,
        seat=c.seat,
        window=window,
        to=to,
        claim=segment.results[window].claim,
        opened=digest("some", b"opened"),
        traces=digest("some", b"traces"),
        num_traces=1,
        signature=b"",
    )
    state = ledger.state
    signature = by.sign("spot", state.chain, state.run(c.run).spec_digest, encode(unsigned))
    return replace(unsigned, signature=signature)


@dataclass
class Spotted(Case):
    """A committed segment whose verifiers look at elements."""

    def check(self, key: SecretKey) -> Check:
        """The check of a verifier."""
        return next(check for check in self.record.checks if check.peer == key.peer)

    def is_forced(self, key: SecretKey) -> bool:
        """Whether the solver is to state something false to a verifier: it alone knows that."""
        return seed_for(self.record, self.run.spec, self.check(key), SALT) is not None

    def said(self, key: SecretKey, *, by: SecretKey | None = None) -> SpotStatement:
        """The statement for a verifier about its window."""
        window = self.check(key).window
        return signed(self.ledger, self.claimed, by or self.solver, key.peer, window)

    def commitment(self, key: SecretKey, said: SpotStatement, *, is_false: bool) -> bytes:
        """What a verifier commits to."""
        claim = self.claimed.results[said.window].claim
        answer = spot_answer(claim, said.digest, is_false=is_false)
        return verify_commit(answer, verifier_salt(key.peer), key.peer)

    def hide(
        self, key: SecretKey, *, is_false: bool, said: SpotStatement | None = None
    ) -> VerifyCommit:
        """The blind answer of a verifier."""
        said = said or self.said(key)
        c, place = self.claimed.commit, self.claimed.check_of(self.ledger.state, key.peer)
        hidden = self.commitment(key, said, is_false=is_false)
        where = (c.run, c.round, c.stage, c.seat)
        return VerifyCommit(*where, check=place, window=said.window, commitment=hidden)  # type: ignore[arg-type]

    def tell(
        self,
        key: SecretKey,
        *,
        is_false: bool,
        said: SpotStatement | None = None,
        **changes: object,
    ) -> VerifyReveal:
        """The answer that it shows."""
        said = said or self.said(key)
        c, place = self.claimed.commit, self.claimed.check_of(self.ledger.state, key.peer)
        body = VerifyReveal(
            c.run,
            c.round,
            c.stage,
            c.seat,
            check=place,
            salt=verifier_salt(key.peer),
            claim=b"",
            said=said.digest,
            is_false=is_false,
            statement=encode(said) if self.is_forced(key) else b"",
        )
        return replace(body, **changes)

    def answered(self, saying: dict[SecretKey, bool]) -> None:
        """Verifiers answer blind, each that it is false or not, and the solver shows its windows."""
        for key, is_false in saying.items():
            self.submit(key, self.hide(key, is_false=is_false))
        self.wait(SegmentPhase.SEALED)
        self.submit(self.solver, self.claimed.reveal())


def spotted(checks: CheckSpec = OFTEN, *, num_accounts: int = 12) -> Spotted:
    """A segment of ten windows, for which verifiers are drawn."""
    case = a_case(replace(EXACT, checks=checks), num_accounts=num_accounts)
    found = Spotted(case.ledger, case.run, case.true, case.claimed)
    found.draw_verifiers()
    return found


def asked(*, forced: bool, checks: CheckSpec = OFTEN) -> tuple[Spotted, SecretKey]:
    """A segment, and the only verifier that has asked for a window of it, which is forced or not."""
    for num_accounts in range(12, 32):
        case = spotted(checks, num_accounts=num_accounts)
        before = case.ledger.head
        for key in case.able:
            if case.ask([key]) and case.is_forced(key) is forced:
                return case, key
            case.ledger.head = before
    raise AssertionError("nobody is drawn that way")
