"""Verify a file of evidence with nothing but this program and the genesis of a network: verify-evidence.

Shell: reads the file, replays the window, prints. No node, no home and no network is needed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.commands.checkpoint import (
    TRUST_HELP,
    check_network,
    parse_trust,
    trusted_network,
)
from swarm.cli.errors import NO_FRAUD
from swarm.cli.terminal import terminal
from swarm.errors import PeerFault, UsageError, VerificationFailed

if TYPE_CHECKING:
    from swarm.ledger.light import TrustedEpoch
    from swarm.training.data.dataset import TokenSource
    from swarm.types import Digest
    from swarm.verify.audit import AuditResult
    from swarm.verify.evidence_check import Proved

LABEL_CHARS = 9


@dataclass(frozen=True, slots=True)
class EvidenceTrust:
    """Trust that the reader of a file has, besides that in this program."""

    network: "Digest | None"
    """Chain id of the network; None for whichever the file is of."""
    epoch: "TrustedEpoch | None" = None


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("verify-evidence", short_help="Is what a file says of a peer's work true?")(
        verify_evidence
    )


def verify_evidence(
    file: Annotated[str, typer.Argument(help="A file that swarm audit --evidence wrote.")],
    network: Annotated[
        str,
        typer.Option(
            "--network",
            "--chain",
            help="Id of the network you trust, in hex; without it, that of this home.",
        ),
    ] = "",
    genesis: Annotated[str, typer.Option(help="The same, by the file of its genesis.")] = "",
    trust: Annotated[str, typer.Option(help=TRUST_HELP)] = "",
    data: Annotated[
        str,
        typer.Option(help="Training text of the run, where the file has too little: train.bin."),
    ] = "",
) -> None:
    """Prove offline that a window of a peer's work is false, or that it is honest.

    The validators of the genesis vouch for what the peer has committed to, its own signature for the log, and
    this program computes the window again. Exit code 0 if the window is false, 7 if it is honest, 6 if the file
    proves nothing.
    """
    screen, path = terminal(), Path(file).expanduser()
    if genesis and network:
        raise UsageError("--network and --genesis both name the network: give one of them")
    pinned = _network_in(genesis) if genesis else trusted_network(screen.home, network)
    trusted = EvidenceTrust(pinned, parse_trust(trust))
    with screen.patient("still at it: every step of the window is computed again"):
        proved, found = check_evidence(path, trusted, Path(data).expanduser() if data else None)
    if pinned is None:
        whose = "which you must know by yourself: --network HEX"
    else:
        whose = "as you said" if network or genesis else "the network of this home"
    row = evidence_row(path, proved, found, trusted)
    screen.data(row, evidence_lines(proved, found, f"{row['network']}, {whose}", row))
    if row["verdict"] != "fraud":
        raise typer.Exit(NO_FRAUD)


def check_evidence(
    path: Path, trusted: EvidenceTrust, data: Path | None = None
) -> "tuple[Proved, AuditResult]":
    """Read a file, check its proof and replay its window.

    Args:
        path: The file.
        trusted: Network, and perhaps an epoch, that the reader trusts.
        data: The whole training text of the run; None to use what is in the file.

    Raises:
        UsageError: The file is not there.
        VerificationFailed: It proves nothing, or is of another network, or the text is not that of the run.
        BadConfig: The replay needs text that is neither in the file nor given.
    """
    from swarm.verify.evidence_check import convince, prove
    from swarm.verify.evidence_file import read_evidence_file

    try:
        evidence = read_evidence_file(path)
        check_network(str(path), evidence.genesis.chain, trusted.network)
        proved = prove(evidence, trusted.epoch)
        return proved, convince(evidence, proved, _text(proved, data))
    except PeerFault as fault:
        raise VerificationFailed(
            f"{path} proves nothing: {fault}", hint="ask for the file again"
        ) from None


def evidence_row(
    path: Path, proved: "Proved", found: "AuditResult", trusted: EvidenceTrust
) -> dict[str, object]:
    """Return the object of ``swarm verify-evidence --json``."""
    from importlib.metadata import version

    from swarm.ledger.transition.sampling import num_windows
    from swarm.primitives.crypto import peer_name, peer_text

    record, key, epoch = proved.record, proved.key, trusted.epoch
    return {
        "file": str(path),
        "verdict": str(found.verdict),
        "network": proved.network.hex(),
        "is_trusted": trusted.network is not None,
        "trusted_epoch": None if epoch is None else str(epoch),
        "version": version("swarm-train"),
        "run": proved.spec.name,
        "run_digest": proved.run.spec_digest.hex(),
        "round": key.round,
        "stage": key.stage,
        "seat": key.seat,
        "window": key.window,
        "windows": num_windows(record.num_steps, proved.spec.checks.window_steps),
        "solver": peer_name(record.peer),
        "peer": peer_text(record.peer),
        "committed": record.height,
        "height": proved.height,
        "end_root": record.end_root.hex(),
        "claim": None if found.claim is None else found.claim.hex(),
        "replay": None if found.found is None else found.found.hex(),
        "text": list(found.lines),
    }


def evidence_lines(
    proved: "Proved", found: "AuditResult", network: str, row: dict[str, object]
) -> list[str]:
    """Return the same for people: who, what was committed, what the replay gives, and whom they trust."""
    shown = f"claim {row['claim']}"
    if row["claim"] is None:
        shown = f"no windows yet; its segment ends in {row['end_root']}"
    voters = f"its {proved.founders} first validators"
    if row["trusted_epoch"] is not None:
        voters = f"validators of epoch {row['trusted_epoch']}, as you said"
    seat = f"round {row['round']}, stage {row['stage']}, seat {row['seat']}"
    rows = [
        ("verdict", f"{str(row['verdict']).upper().replace('_', ' ')}: {found.lines[0]}"),
        ("who", f"{row['solver']}, {row['peer']}"),
        ("what", f"run {row['run']}, {seat}, window {row['window']} of {row['windows']}"),
        ("committed", f"at height {row['committed']}; proved by the final block {proved.height}"),
        ("shown", shown),
        ("replay", f"claim {row['replay']}"),
        *(("", line) for line in found.lines[1:]),
        ("trusted", f"genesis {network}"),
        ("", f"{voters}, and those that they handed over to"),
        ("", f"this program, version {row['version']}, which computed the window"),
    ]
    return [f"{label:<{LABEL_CHARS}} {value}" for label, value in rows]


def _network_in(file: str) -> "Digest":
    from swarm.cli.commands.network import read_genesis_file

    return read_genesis_file(Path(file).expanduser()).chain


def _text(proved: "Proved", path: Path | None) -> "TokenSource | None":
    """Open the training text of a run; raise ``VerificationFailed`` unless it is that."""
    if path is None:
        return None
    from swarm.training.data.disk import open_tokens, root_of_file

    spec = proved.spec.data
    root = root_of_file(path, spec.dtype, spec.num_token_ids)
    if root != spec.train_root:
        raise VerificationFailed(
            f"{path} has the hash {root.hex()}, and the text of the run {spec.train_root.hex()}"
        )
    return open_tokens(path, spec.dtype)
