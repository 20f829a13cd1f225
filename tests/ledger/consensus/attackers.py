"""Validators that break the rules of consensus: what they say must harm nobody but themselves."""

import random
from dataclasses import dataclass, field

from swarm.ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Certificate, block_digest
from swarm.ledger.consensus.simplex import Send, Simplex
from swarm.ledger.consensus.votes import JUSTIFICATION_MAX, Proof, Proposal, Statement, Vote
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, Digest, Height, View
from tests.ledger.consensus.plain import PlainExecutor

FALSE_BLOCK = digest("block", b"that nobody made")
LOOT_MAX = 200


class Equivocator(Simplex):
    """Proposes two blocks in every view it leads, one to each half, and signs every vote there is."""

    pair: tuple[View, tuple[Proposal, ...]] = (View(0), ())
    """What it proposed last, and in which view."""

    def _propose(self) -> None:
        executor = self._executor
        assert isinstance(executor, PlainExecutor)
        made, self.is_muted = list[Proposal](), False
        for twist in (b"left", b"right"):
            executor.twist = twist
            self._proposals.pop(self.view, None)
            before = len(self._effects)
            super()._propose()
            wishes, self._effects[before:] = self._effects[before:], []
            half = [i for i in range(len(self._electorate)) if i % 2 == (twist == b"right")]
            for wish in wishes:
                if isinstance(wish, Send) and isinstance(wish.statement, Proposal):
                    made.append(wish.statement)
                    self._effects += [Send(i, wish.statement) for i in half if i != self.me]
                else:
                    self._effects.append(wish)
        self.pair = self.view, tuple(made)

    def _vote(self, kind: int, view: View, block: Digest) -> None:
        if kind == NULLIFY:
            self._sign(NULLIFY, view, NO_DIGEST)
            return
        ours = self.pair[1] if self.pair[0] == view else ()
        for name in [block_digest(one.block.header) for one in ours] or [block]:
            for false_kind in (NOTARIZE, FINALIZE):
                self._sign(false_kind, view, name)

    def _repeat(self, to: int | None, view: View) -> None:
        """Tell who asks, and so may have forgotten, what the other half was told."""
        if to is not None and self.pair[0] == view and self.pair[1]:
            left, right = (*self.pair[1], *self.pair[1])[:2]
            self._effects += [Send(to, one) for one in ((left, right) if to % 2 else (right, left))]
        super()._repeat(to, view)

    def _sign(self, kind: int, view: View, block: Digest) -> None:
        vote = self._electorate.sign_vote(self._secret, kind, view, block)
        self._vote_log.add(vote)
        self._effects.append(Send(None, vote))


class Whisperer(Simplex):
    """Proposes two blocks in every view it leads, and tells each half its own block and its vote for that.

    Nobody hears both votes from it; they meet only in a certificate.
    """

    def _propose(self) -> None:
        executor = self._executor
        assert isinstance(executor, PlainExecutor)
        if self.view in self._proposals:
            return
        self.is_muted = False
        for twist in (b"left", b"right"):
            executor.twist = twist
            self._proposals.pop(self.view, None)
            before = len(self._effects)
            super()._propose()
            wishes, self._effects[before:] = self._effects[before:], []
            half = range(twist == b"right", len(self._electorate), 2)
            for wish in wishes:
                if isinstance(wish, Send) and isinstance(wish.statement, Proposal):
                    name = block_digest(wish.statement.block.header)
                    vote = self._electorate.sign_vote(self._secret, NOTARIZE, self.view, name)
                    said: tuple[Statement, ...] = (wish.statement, vote)
                    self._effects += [Send(i, one) for i in half for one in said if i != self.me]

    def _vote(self, kind: int, view: View, block: Digest) -> None:
        if kind == NULLIFY or self._electorate.leader(view) != self.me:
            super()._vote(kind, view, block)

    def _repeat(self, to: int | None, view: View) -> None:
        if self._electorate.leader(view) != self.me:
            super()._repeat(to, view)


@dataclass
class Plot:
    """What the forgers of a world share."""

    dice: random.Random
    loot: dict[tuple[int, int, View], Certificate] = field(default_factory=dict)
    """Certificates by epoch, kind and view, to be shown again in later epochs."""
    orphan: Block | None = None
    """The last block that one of them proposed past notarized ones."""


class Forger(Simplex):
    """Sends forged votes, certificates and proposals; its own votes are honest, so none convicts it."""

    plot: Plot

    def _enter(self, view: View) -> None:
        before = self.view
        super()._enter(view)
        if self.view > before:
            self._effects += [Send(None, forged) for forged in self._forged(self.view)]

    def _certified(self, certificate: Certificate) -> None:
        if len(self.plot.loot) < LOOT_MAX:
            key = self._electorate.epoch, certificate.kind, certificate.view
            self.plot.loot.setdefault(key, certificate)
        super()._certified(certificate)

    def _forged(self, view: View) -> list[Statement]:
        """Statements that no honest validator sends, for a view."""
        electorate, count = self._electorate, len(self._electorate)
        ours = electorate.sign_vote(self._secret, NULLIFY, view, NO_DIGEST)
        alone = electorate.sign_vote(self._secret, FINALIZE, view, FALSE_BLOCK)
        junk = Vote(NOTARIZE, view, FALSE_BLOCK, self.me, bytes(64))
        others = [i for i in range(count) if i != self.me]
        statements: list[Statement] = [junk]
        statements += [Vote(NULLIFY, view, NO_DIGEST, i, ours.signature) for i in others]
        for vote in (ours, alone):
            crowd = (1 << count) - 1, (vote.signature,) * count
            for bitmap, marks in (crowd, (1 << self.me, (vote.signature,))):
                statements.append(Proof(Certificate(vote.kind, view, vote.block, bitmap, marks)))
        for (epoch, _, then), certificate in sorted(self.plot.loot.items()):
            if then == view and epoch < electorate.epoch:
                statements.append(Proof(certificate))
        return [*statements, self._usurped(view)]

    def _usurped(self, view: View) -> Proposal:
        """A block in a view that is another's: signed by this validator, and by nobody."""
        block = self._block(self.tip.digest, Height(self.tip.height + 1), view)
        signed = self._electorate.sign_proposal(self._secret, view, block, ())
        return signed if view % 2 else Proposal(view, block, (), bytes(64))

    def _propose(self) -> None:
        """Lead honestly in one view of six; in the others propose what must not be voted for."""
        executor, view, tip = self._executor, self.view, self.tip
        assert isinstance(executor, PlainExecutor)
        after = Height(tip.height + 1)
        notarized, orphan = self._counter.notarizations(), self.plot.orphan
        choice = self.plot.dice.randrange(6) if view not in self._proposals else 0
        if notarized and self._branch.height_of(notarized[-1].block) == self._electorate.last:
            choice = 4
        elif orphan is not None and orphan.header.height == after:
            choice = 2
        match choice:
            case 1:  # past what was notarized since the tip, without a proof that it was skipped
                self.plot.orphan = self._block(tip.digest, after, view)
                self._say(self.plot.orphan, *self._pretexts(View(tip.view + 1), view))
            case 2 if (
                orphan is not None and orphan.header.view < view
            ):  # on a block that nobody has certified
                height = Height(orphan.header.height + 1)
                self._say(self._block(block_digest(orphan.header), height, view))
                self.plot.orphan = None
            case 3:
                executor.twist = b"bad"
                super()._propose()
                executor.twist = b""
            case 4 if notarized:  # on the newest block, even if it is the last of its epoch
                parent = notarized[-1].block
                height = Height((self._branch.height_of(parent) or tip.height) + 1)
                self._say(self._block(parent, height, view))
            case 5:  # in the name of another
                block = self._block(tip.digest, after, view)
                other = self._electorate.validators[self.me - 1].peer
                self._say(replace(block, header=replace(block.header, leader=other)))
            case _:
                super()._propose()

    def _pretexts(self, first: View, view: View) -> list[Certificate]:
        """Forged proofs that views were skipped, this one too; every other time none."""
        skipped = range(max(first, view + 1 - JUSTIFICATION_MAX), view + 1)
        marks = bytes(64), bytes(64)
        return [
            Certificate(NULLIFY, View(v), NO_DIGEST, 3, marks) for v in skipped
        ] * self.plot.dice.randrange(2)

    def _say(self, block: Block, *proof: Certificate) -> None:
        signed = self._electorate.sign_proposal(self._secret, self.view, block, proof)
        self._effects.append(Send(None, signed))
        self._branch.add(block)
        self._vote(NOTARIZE, self.view, block_digest(block.header))

    def _block(self, parent: Digest, height: Height, view: View) -> Block:
        """A block without state behind it."""
        executor = self._executor
        assert isinstance(executor, PlainExecutor)
        return PlainExecutor(self._secret, None, executor.epoch, executor.chain).build(
            parent, height, view
        )
