"""kill -9 of a process that signs votes: what it has told must be on record, and never contradicted.

    python -m benchmarks.campaign_kills HOME LIFE VIEWS

is one life of that process. It opens its store, vote log and memory as a node does, tells what they hold, and
votes in rising views, beginning a few views before the last: there it would vote otherwise than in the life
before, and its vote log must forbid it. A vote is told (acknowledged) once it is durable, in the order of a
validator: vote log, mark, word.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarm.host.identity import load_identity
from swarm.ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Validator
from swarm.ledger.consensus.journal import VoteLog, VoteRecord, unsettled
from swarm.ledger.consensus.memory import VoteMemory
from swarm.ledger.consensus.votes import Electorate, Vote
from swarm.ledger.net.archive import Archive
from swarm.primitives.crypto import digest
from swarm.store import STORE_FILE, Store
from swarm.testing.ledger import make_genesis
from swarm.types import NO_DIGEST, Amount, View

ROOT = Path(__file__).parents[1]
AGAIN_VIEWS = 3
"""Views before its last in which a new life tries to vote again."""
KEPT_VIEWS, PRUNE_VIEWS = 16, 8
"""Views that stay in the vote log, and views between two prunings: as finality does."""
LIFE_S = 0.3
"""Seconds of voting after which a life has ended at the latest: dozens of votes."""
START_S = 1.0
"""Of every fourth life, seconds from its start instead, so that it may die while it loads."""
PATIENCE_S = 60.0
VIEWS_MAX = 1_000_000
"""Views of a life: more than it will see."""

Told = tuple[int, int, int, str]
"""A vote: its number in the vote log, kind, view and block."""


@dataclass(frozen=True, slots=True)
class Life:
    """What one life told before it was killed."""

    is_whole: bool = False
    """True if its memory found nothing missing."""
    base: int = 0
    """Number of the last entry that its vote log had forgotten on purpose."""
    loaded: tuple[Told, ...] | None = None
    """What its vote log held at the start; None if it died before it could tell."""
    votes: tuple[Told, ...] = ()
    """The votes that it acknowledged."""
    first_vote_s: float | None = None


@dataclass(slots=True)
class Verdict:
    """What all lives together show."""

    double_votes: int = 0
    lost_acknowledged: int = 0
    not_whole: int = 0
    acknowledged: int = 0
    first_vote_s: list[float] = field(default_factory=list[float])


def kill_often(kills: int, seed: int) -> Verdict:
    """Kill and start the process so many times, in a home of its own; judge what it told."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="swarm-kills-") as folder:
        home = Path(folder) / "home"
        load_identity(home)
        lives = [_live(home, number, dice) for number in range(1, kills + 1)]
        lives.append(_live(home, 0, None))
    return judge(lives)


def judge(lives: Sequence[Life]) -> Verdict:
    """Return how many acknowledged votes are missing or contradicted in later lives."""
    verdict, known, told = Verdict(), dict[tuple[int, int], str](), dict[int, Told]()
    for life in lives:
        if life.loaded is not None:
            held = set(life.loaded)
            verdict.not_whole += not life.is_whole
            lost = [vote for n, vote in told.items() if n > life.base and vote not in held]
            verdict.lost_acknowledged += len(lost)
        for vote in (*(life.loaded or ()), *life.votes):
            _, kind, view, block = vote
            rival = {NULLIFY: FINALIZE, FINALIZE: NULLIFY}.get(kind)
            is_new = (kind, view) not in known
            differs = known.setdefault((kind, view), block) != block
            crosses = is_new and rival is not None and (rival, view) in known
            verdict.double_votes += differs or crosses
        told |= {vote[0]: vote for vote in life.votes}
        verdict.acknowledged += len(life.votes)
        verdict.first_vote_s += [life.first_vote_s] if life.first_vote_s is not None else []
    return verdict


def _live(home: Path, number: int, dice: random.Random | None) -> Life:
    """Start a life, kill it when the dice say so, and return what it told; without dice, let it end."""
    began = time.monotonic()
    views = "0" if dice is None else str(VIEWS_MAX)
    command = [sys.executable, "-m", "benchmarks.campaign_kills", str(home), str(number), views]
    lines, times = list[str](), list[float]()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                times.append(time.monotonic())
                lines.append(line)

        ear = threading.Thread(target=listen)
        ear.start()
        if dice is None:
            process.wait(PATIENCE_S)
        else:
            _kill(process, dice, number, lines)
        ear.join(PATIENCE_S)
    return _heard([line for line in lines if line.endswith("\n")], times, began)


def _kill(
    process: "subprocess.Popen[str]", dice: random.Random, number: int, lines: list[str]
) -> None:
    """Send SIGKILL at a random moment of the life; raise ``RuntimeError`` if it has ended by itself."""
    if number % 4:
        deadline = time.monotonic() + PATIENCE_S
        while not lines and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
    time.sleep(dice.uniform(0.0, LIFE_S if number % 4 else START_S))
    process.send_signal(signal.SIGKILL)
    if process.wait(PATIENCE_S) != -signal.SIGKILL:
        raise RuntimeError(f"life {number} ended by itself, with {process.returncode}")


def _heard(lines: Sequence[str], times: Sequence[float], began: float) -> Life:
    """Return the life behind its whole lines."""
    if not lines:
        return Life()
    opening = json.loads(lines[0])
    loaded = tuple((n, kind, view, block) for n, kind, view, block in opening["votes"])
    votes = tuple((n, k, v, b) for n, k, v, b in map(json.loads, lines[1:]))
    first = times[1] - began if votes else None
    return Life(opening["whole"], opening["base"], loaded, votes, first)


def _serve(home: Path, life: int, views: int) -> None:
    """Be one life: load, tell what is there, and vote in so many views."""
    secret, store = load_identity(home), Store.open(home / STORE_FILE)
    archive, memory = Archive.open(store, make_genesis(4, 1)), VoteMemory.open(home)
    journal, log = archive.load_journal(), VoteLog()
    for vote in unsettled(journal.records, 0, View(0))[0]:
        log.add(vote)
    numbered = zip(journal.entries, journal.records, strict=True)
    held = [_told(n, r.vote) for (n, _, _), r in numbered if isinstance(r, VoteRecord)]
    _say({"whole": memory.is_whole(journal), "base": journal.base.number, "votes": held})
    electorate = Electorate(archive.genesis.chain, [Validator(secret.peer, Amount(1))], bytes(32))
    first = max([1, *(view - AGAIN_VIEWS for view in log.views()[-1:])])
    for view in map(View, range(first, first + views)):
        name = digest("block", b"%d/%d" % (life, view))
        last = (FINALIZE, name) if (life + view) % 2 else (NULLIFY, NO_DIGEST)
        for kind, block in ((NOTARIZE, name), last):
            if not log.allow(kind, view):
                continue
            vote = electorate.sign_vote(secret, kind, view, block)
            log.add(vote)
            changes = journal.append(VoteRecord(0, vote, None))
            if view % PRUNE_VIEWS == 0:
                changes += journal.prune(0, View(view - KEPT_VIEWS))
            store.write(changes)
            memory.note(journal)
            _say(_told(journal.head.number, vote))


def _told(number: int, vote: Vote) -> Told:
    return number, vote.kind, vote.view, vote.block.hex()


def _say(word: object) -> None:
    print(json.dumps(word), flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
