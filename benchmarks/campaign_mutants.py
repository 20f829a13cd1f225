"""The guards of the consensus core, each of which a mutation removes: the campaign must notice.

    python -m benchmarks.campaign_mutants NUMBER SEEDS

plays the histories of the simulation, seed after seed, with one mutant, until one fails. A mutant is a change
of source text, made when the module is imported into this process; no file is changed.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).parents[1]
PATIENCE_S = 300.0
SIMPLEX, VOTES, BRANCH, JOURNAL = (
    f"swarm.ledger.consensus.{name}" for name in ("simplex", "votes", "branch", "journal")
)
BLOCKS = "swarm.ledger.blocks"


@dataclass(frozen=True, slots=True)
class Edit:
    """A passage of a module that occurs once, and what stands there instead."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A guard, and the edits that remove it: several where one rule is held twice."""

    guard: str
    edits: tuple[Edit, ...]


def _mutant(guard: str, *edits: tuple[str, str, str]) -> Mutant:
    return Mutant(guard, tuple(Edit(*edit) for edit in edits))


_ALLOW = "return not self.has(kind, view) and not self.has(rival, view)"
_PLACE = "if header.leader != self.validators[self.leader(header.view)].peer:"
MUTANTS = (
    _mutant(
        "one notarize vote per view",
        (JOURNAL, _ALLOW, f"{_ALLOW} or kind not in {{NULLIFY, FINALIZE}}"),
        (
            SIMPLEX,
            "if proposal is None or self._vote_log.has(NOTARIZE, self.view):",
            "if proposal is None:",
        ),
    ),
    _mutant(
        "never both nullify and finalize",
        (JOURNAL, _ALLOW, "return not self.has(kind, view)"),
    ),
    _mutant(
        "votes are saved before they are sent",
        (
            SIMPLEX,
            "self._effects.append(Save(VoteRecord(self._electorate.epoch, vote, kept)))",
            "del kept",
        ),
    ),
    _mutant(
        "proposals are saved before they are sent",
        (
            SIMPLEX,
            "self._effects.append(Save(ProposalRecord(self._electorate.epoch, proposal)))",
            "pass",
        ),
    ),
    _mutant(
        "votes of an earlier life bind",
        (SIMPLEX, "for vote in votes:", "for vote in votes[:0]:"),
    ),
    _mutant(
        "who forgot its votes is silent",
        (SIMPLEX, "if self.is_muted or self.is_over or not", "if self.is_over or not"),
    ),
    _mutant(
        "a quorum is more than two thirds, not two thirds",
        (VOTES, "for i in voters) > 2 * self.total", "for i in voters) >= 2 * self.total"),
    ),
    _mutant(
        "votes for different blocks are counted apart",
        (
            VOTES,
            "setdefault((vote.kind, vote.block), {})",
            "setdefault((vote.kind, NO_DIGEST), {})",
        ),
        (
            VOTES,
            "ballot.counts.get((vote.kind, vote.block), {})",
            "ballot.counts.get((vote.kind, NO_DIGEST), {})",
        ),
    ),
    _mutant(
        "the parent is certified",
        (
            BRANCH,
            "views = [] if is_tip or notarization is not None else [view]",
            "views = list[View]()",
        ),
    ),
    _mutant(
        "skipped views are certified",
        (
            BRANCH,
            "views += [v for v in skipped if counter",
            "views += [v for v in skipped if v < 0 and counter",
        ),
    ),
    _mutant(
        "the leader of the view signed the proposal",
        (SIMPLEX, "if view < 1 or self._electorate.leader(view) != sender:", "if view < 1:"),
        (VOTES, _PLACE, "if False:"),
        (
            VOTES,
            "peer = self.validators[self.leader(proposal.view)].peer",
            "peer = proposal.block.header.leader",
        ),
    ),
    _mutant(
        "the leader of the view made the block",
        (VOTES, _PLACE, "if False:"),
    ),
    _mutant(
        "no block follows the last of an epoch",
        (VOTES, "or header.height > self.last:", "or False:"),
    ),
    _mutant(
        "the epoch is in the signature",
        (BLOCKS, 'return chain, epoch.to_bytes(8, "big"), view', "return chain, bytes(8), view"),
    ),
    _mutant(
        "a vote is verified before it counts",
        (VOTES, "            self._electorate.check_vote(vote)", "            pass"),
    ),
    _mutant(
        "a certificate is verified before it counts",
        (SIMPLEX, "                    self._electorate.check_certificate(certificate)\n", ""),
    ),
    _mutant(
        "the certificates of a proposal are verified",
        (
            SIMPLEX,
            "for certificate in unknown:\n            self._electorate.check",
            "for certificate in unknown[:0]:\n            self._electorate.check",
        ),
    ),
    _mutant(
        "a block is validated before it is voted for",
        (SIMPLEX, "self._judge(block_digest(proposal.block.header))", "pass"),
    ),
    _mutant(
        "conflicting votes are evidence",
        (
            VOTES,
            "return next((o for o in others if o.kind",
            "return next((o for o in () if o.kind",
        ),
    ),
    _mutant(
        "what each half was told meets: in certificates, and in votes that are passed on",
        (VOTES, "for vote in votes_in(certificate):", "for vote in ():"),
        (VOTES, "or self._contradicted(vote)", "or None"),
        (SIMPLEX, "        self._pass_on(certificate)\n", ""),
    ),
    _mutant(
        "a view that does not end is nullified",
        (
            SIMPLEX,
            "self._requested = self.tip.view\n            self._vote(NULLIFY, self.view, NO_DIGEST)",
            "self._requested = self.tip.view",
        ),
    ),
)


def hunt(number: int, seeds: int) -> dict[str, object]:
    """Play one mutant in a process of its own; return after how many seeds it was caught, and by what."""
    command = [sys.executable, "-m", "benchmarks.campaign_mutants", str(number), str(seeds)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    if done.returncode:
        return {"caught_after": None, "by": f"the hunt failed: {done.stderr[-300:]}"}
    found: dict[str, object] = json.loads(done.stdout)
    return found


def changed_source(module: str, text: str, edits: Sequence[Edit]) -> str:
    """Return the source of a module with its edits; raise ``ValueError`` if one does not fit exactly once."""
    for edit in edits:
        if edit.module != module:
            continue
        if text.count(edit.old) != 1:
            raise ValueError(f"{edit.old!r} is {text.count(edit.old)} times in {module}")
        text = text.replace(edit.old, edit.new)
    return text


class _Loader(SourceFileLoader):
    """Compiles a module from changed source, past the cache."""

    edits: Sequence[Edit] = ()

    def get_code(self, fullname: str) -> CodeType:
        text = Path(self.path).read_text(encoding="utf-8")
        return compile(changed_source(fullname, text, self.edits), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Gives the edited modules to the loader above, and leaves all others alone."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits = edits
        self.left = {edit.module for edit in edits}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.left:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is None or found.origin is None:
            return None
        self.left.discard(fullname)
        loader = _Loader(fullname, found.origin)
        loader.edits = self._edits
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def _play(edits: Sequence[Edit], seeds: int) -> Mapping[str, object]:
    finder = _Finder(edits)
    sys.meta_path.insert(0, finder)
    from swarm.errors import SwarmError  # noqa: PLC0415
    from tests.ledger.consensus.simulation import a_world, name_of  # noqa: PLC0415

    assert not finder.left, f"{finder.left} was not imported with its edits"
    for seed in range(seeds):
        try:
            a_world(seed).live()
        except (AssertionError, SwarmError) as error:
            by = f"{name_of(seed)}: {type(error).__name__}: {str(error)[:160]}"
            return {"caught_after": seed + 1, "by": by}
    return {"caught_after": None, "by": "nothing"}


if __name__ == "__main__":
    print(json.dumps(_play(MUTANTS[int(sys.argv[1])].edits, int(sys.argv[2]))))
