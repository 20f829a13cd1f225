"""Measure the results of the demo in separate processes that read what it left on disk.

Shell: runs `swarm export`, `eval`, `generate` and `ledger verify`, two at a time. The last one's object has the
results of the checks.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from swarm.cli.demo.peer import DemoPeer
from swarm.cli.demo.processes import Children, command
from swarm.cli.demo.scenario import Cheat
from swarm.cli.state_reader import read_answer
from swarm.primitives.codec import Document
from swarm.primitives.crypto import peer_text

VERDICT_ROUNDS = 6
"""Rounds from commit to verdict, with a margin: draws, blind answers, reveals, votes take one to three."""


class VerifiedPeer(Document, frozen=True):
    """Work of one peer in a run."""

    segments: int = 0
    verified: int = 0
    failed: int = 0
    silent: int = 0
    waiting_blocks: tuple[int, ...] = ()


class VerifiedRun(Document, frozen=True):
    """One run of a verified ledger."""

    old_segments: int = 0
    old_verified: int = 0
    round_blocks: int = 0
    peers: dict[str, VerifiedPeer] = {}  # noqa: RUF012  msgspec copies an empty default


class VerifiedLedger(Document, frozen=True):
    """The object of ``swarm ledger verify --json``, as far as it is needed here."""

    runs: tuple[VerifiedRun, ...] = ()
    stakes: dict[str, int] = {}  # noqa: RUF012  msgspec copies an empty default


@dataclass(frozen=True, slots=True)
class Checked:
    """Counts of checks; None where there is nothing to count, or the ledger could not be verified."""

    commits_old: int | None = None
    """Commits older than two rounds."""
    commits_verified: int | None = None
    """Commits older than two rounds of which another peer has replayed a window and found it true."""
    lies_planted: int | None = None
    """Segments of the cheating peer: it takes none of the steps it commits to, so each is false."""
    lies_caught: int | None = None
    """Segments of the cheating peer that were proven false, or not paid since it served no sound log."""
    lies_late: int | None = None
    """Segments of the cheating peer that are so young that they wait for their verdict."""
    lies_unseen: int | None = None
    """Segments of the cheating peer that no verifier got to in time: nobody has called them true."""
    deceivers: int | None = None
    """Cheating peers that committed segments and gave their partners other weights than they have."""
    deceivers_caught: int | None = None
    """Those of them that were proven to."""
    honest_slashed: int | None = None
    """Honest peers that lost stake or were found guilty."""


def count_checks(
    row: Mapping[str, object] | None,
    honest: Mapping[str, int],
    cheat: str | None,
    deceiver: str | None = None,
) -> Checked:
    """Count the checks in ``row``.

    ``honest`` maps the PeerID of each honest peer to the stake that it should still have; ``cheat`` and
    ``deceiver`` are the PeerIDs of the cheating peers, None without them.
    """
    ledger = read_answer(VerifiedLedger, row or {})
    if not ledger.runs:
        return Checked()
    run, nothing = ledger.runs[-1], VerifiedPeer()
    slashed = sum(
        ledger.stakes.get(peer, 0) < stake or run.peers.get(peer, nothing).failed > 0
        for peer, stake in honest.items()
    )
    if cheat is None:
        planted = caught = late = unseen = None
    else:
        work = run.peers.get(cheat, nothing)
        planted, caught = work.segments, work.failed + work.silent
        late = sum(age < VERDICT_ROUNDS * run.round_blocks for age in work.waiting_blocks)
        unseen = max(planted - caught - work.verified - len(work.waiting_blocks), 0)
    told = None if deceiver is None else run.peers.get(deceiver, nothing)
    return Checked(
        commits_old=run.old_segments,
        commits_verified=run.old_verified,
        lies_planted=planted,
        lies_caught=caught,
        lies_late=late,
        lies_unseen=unseen,
        deceivers=None if told is None else int(told.segments > 0),
        deceivers_caught=None if told is None else int(told.failed > 0),
        honest_slashed=slashed,
    )


STEP_TIMEOUT_S = 120.0
"""Seconds for one such process: each takes seconds; a minute on a crowded machine."""
SAMPLE_PROMPT = "def "
SAMPLE_BYTES = 240
Say = Callable[[str], None]
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of separate processes; None for one that failed."""

    initial_loss_nats: float | None
    final_loss_nats: float | None
    sample: str | None
    height: int | None
    commits: int | None
    supply_conserved: bool | None
    export_dir: str | None
    checked: Checked


def measure(children: Children, peers: Sequence[DemoPeer], folder: Path, say: Say) -> Measured:
    """Export, evaluate, sample and verify the data in the first home; the models go below ``folder``."""
    final, initial = folder / "model", folder / "model-initial"
    at = ["--home", str(peers[0].home), "--json", "--yes"]

    def run(*args: str) -> Row | None:
        return run_json(children, [*args, *at], say)

    with ThreadPoolExecutor(max_workers=2) as pool:
        begun = [
            pool.submit(run, "export", str(final)),
            pool.submit(run, "export", str(initial), "--initial"),
            pool.submit(run, "ledger", "verify"),
        ]
        exported, untrained, verified = (job.result() for job in begun)
        final_job = pool.submit(run, "eval", str(final)) if exported else None
        initial_job = pool.submit(run, "eval", str(initial)) if untrained else None
        sample_job = (
            pool.submit(run, "generate", "--model", str(final), "-p", SAMPLE_PROMPT,
                        "--count", str(SAMPLE_BYTES), "--temperature", "0.6")
            if exported else None
        )  # fmt: skip
        evaluated = final_job.result() if final_job else None
        before = initial_job.result() if initial_job else None
        written = sample_job.result() if sample_job else None
    ledger = verified or {}
    return Measured(
        initial_loss_nats=_float(before, "loss_nats"),
        final_loss_nats=_float(evaluated, "loss_nats"),
        sample=f"{SAMPLE_PROMPT}{written.get('text')}" if written else None,
        height=_int(ledger, "height"),
        commits=_int(ledger, "commits"),
        supply_conserved=bool(ledger.get("supply_conserved")) if verified else None,
        export_dir=str(final) if exported else None,
        checked=_checked(verified, peers),
    )


def _checked(verified: Row | None, peers: Sequence[DemoPeer]) -> Checked:
    honest = {peer_text(peer.peer): peer.stake for peer in peers if not peer.role.cheats}
    liars = {peer.role.cheat: peer_text(peer.peer) for peer in peers if peer.role.cheats}
    return count_checks(verified, honest, liars.get(Cheat.NO_STEPS), liars.get(Cheat.TWO_FACED))


def run_json(children: Children, args: Sequence[str], say: Say) -> Row | None:
    """Return the object that ``swarm ARGS`` prints; if it fails, print its message and return None."""
    try:
        done = subprocess.run(  # noqa: S603  our own program and arguments
            command(args),
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            env=children.environment(),
            check=False,
        )
        found: object = json.loads(done.stdout) if done.returncode == 0 else None
        problem = done.stderr.strip()[-600:] or f"exit code {done.returncode}"
    except (subprocess.TimeoutExpired, ValueError) as error:
        found, problem = None, str(error)[:300]
    if isinstance(found, dict):
        return cast("Row", found)
    say(f"swarm {' '.join(args[:2])} failed: {problem}")
    return None


def _float(row: Row | None, key: str) -> float | None:
    value = row.get(key) if row else None
    return round(float(value), 4) if isinstance(value, int | float) else None


def _int(row: Row | None, key: str) -> int | None:
    value = row.get(key) if row else None
    return value if isinstance(value, int) else None
