"""Write evidence that convinces a stranger, and take it in to report what it shows.

Shell: waits for a finalization, reads and writes files in worker threads.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import trio

from swarm.errors import PeerFault, Unreachable, UsageError
from swarm.ledger.light import LightProof
from swarm.ledger.state.records import Run
from swarm.ledger.state.state import State
from swarm.node.ports import HasGenesis, HasLedger
from swarm.training.record.window import WindowKey
from swarm.types import RoundIndex
from swarm.verify.audit import AuditEvidence
from swarm.verify.evidence import Evidence, evidence_keys, rounds_of_checkpoints
from swarm.verify.evidence_check import Proved, prove, stale
from swarm.verify.evidence_file import assemble, read_evidence_file, write_evidence
from swarm.verify.replay_process import Material

FINAL_S = 120.0
"""Seconds to wait for a block with a finalization of its own: a follower may get one in some blocks only."""


class ProofsPort(Protocol):
    """Proofs from the genesis on: ``swarm.ledger.reader.Ledger``."""

    @property
    def proved_height(self) -> int:
        """Height of the newest block that can be proved final."""
        ...

    def prove_from(self, keys_of: Callable[[State], Sequence[bytes]]) -> LightProof:
        """Return a proof of the entries that ``keys_of`` names of the state after that block."""
        ...


class EvidencePort(Protocol):
    """Logs of windows, and what their replay reads: ``swarm.verify.service.Verifier``."""

    async def gather(self, evidence: AuditEvidence) -> Material:
        """Return everything that the replay of an audited log reads."""
        ...

    async def adopt(self, evidence: Evidence) -> None:
        """Keep and serve the log and the list in a file."""
        ...


class EvidenceNode(HasLedger, HasGenesis, Protocol):
    """Parts of a node that write and read evidence."""

    @property
    def checks(self) -> EvidencePort:
        """Logs of windows."""
        ...


async def save_evidence(
    context: EvidenceNode, proofs: ProofsPort, found: AuditEvidence, path: Path
) -> None:
    """Write evidence about an audited window, as the ledger proves it now.

    Raises ``Unreachable`` if something cannot be had any more, or no block becomes final, ``UsageError`` if the
    ledger has forgotten the window, and ``BadConfig`` if the file is too large or does not fit on the disk.
    """
    ledger = context.ledger
    if ledger.state.run(found.key.run).spec.checks.spots:
        raise UsageError(
            "this run is checked at drawn elements: no log leaves its seat, and there is none to show",
            hint="a lie that is found convicts by its proof, on the ledger: swarm ledger tail",
        )
    material = await context.checks.gather(found)
    run, height = ledger.state.run(found.key.run), ledger.height
    with trio.move_on_after(FINAL_S):
        while proofs.proved_height < height:
            await ledger.wait_height(ledger.height + 1)
    if proofs.proved_height < height:
        raise Unreachable(
            f"no block after {height} became final within {FINAL_S:.0f} s", hint="swarm status"
        )
    genesis = context.genesis

    def write() -> None:
        rounds = tuple[RoundIndex, ...]()

        def keys_of(state: State) -> Sequence[bytes]:
            nonlocal rounds
            rounds = rounds_of_checkpoints(state, found.key)
            return evidence_keys(found.key, rounds)

        proof = proofs.prove_from(keys_of)
        evidence = assemble(material, run, genesis, rounds, proof)
        prove(evidence)
        write_evidence(path, evidence)

    try:
        await trio.to_thread.run_sync(write)
    except PeerFault as fault:  # a log that its disk has changed, or a segment that went meanwhile
        raise Unreachable(f"the evidence does not hold any more: {fault}") from None


async def adopt_evidence(context: EvidenceNode, run: Run, path: Path) -> WindowKey:
    """Check all of a file but the replay, keep and serve what it holds, and return its window.

    Raises ``UsageError`` if it is no evidence, about another run, or about a window that can be reported no
    more; ``BadConfig`` if the disk cannot take it.
    """
    try:
        evidence, proved = await trio.to_thread.run_sync(_read, path)
    except PeerFault as fault:
        raise UsageError(f"{path} is no evidence: {fault}", hint="swarm audit writes one") from None
    if (proved.network, proved.run.spec_digest) != (context.genesis.chain, run.spec_digest):
        raise UsageError(f"{path} is about another run than this node's", hint="swarm status")
    reason = stale(context.ledger.state, proved)
    if reason:
        raise UsageError(f"{path} comes too late: {reason}", hint="swarm audit")
    await context.checks.adopt(evidence)
    return proved.key


def _read(path: Path) -> tuple[Evidence, Proved]:
    evidence = read_evidence_file(path)
    return evidence, prove(evidence)
