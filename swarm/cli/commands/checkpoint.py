"""Verify an exported model against the ledger that made it final, with no node and no other file.

Shell: reads the folder, hashes the weights of each stage, prints.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import terminal
from swarm.errors import BadConfig, PeerFault, SwarmError, UsageError, VerificationFailed

if TYPE_CHECKING:
    from swarm.ledger.light import TrustedEpoch
    from swarm.ledger.model_proof import ProvedModel
    from swarm.types import Digest

TRUST_HELP = (
    "EPOCH:DIGEST of its validators, from somebody you trust: begin there, not at the genesis."
)

checkpoint_app = typer.Typer(
    help="Exported checkpoints: verify what a folder holds.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(
        checkpoint_app, name="checkpoint", short_help="Verify an exported model: verify FOLDER."
    )


@checkpoint_app.command("verify")
def verify(
    folder: Annotated[str, typer.Argument(help="A folder that swarm export wrote.")],
    network: Annotated[
        str,
        typer.Option(help="Id of the network you trust, in hex; without it, that of this home."),
    ] = "",
    trust: Annotated[str, typer.Option(help=TRUST_HELP)] = "",
) -> None:
    """Prove that a folder holds a checkpoint that a network made final, weight by weight.

    Validators of the genesis, or of an epoch that you trust, hand over to those that made the checkpoint final.
    Exit code 6 if the proof, or one byte of the weights, does not hold.
    """
    screen, where = terminal(), Path(folder)
    trusted = trusted_network(screen.home, network)
    with screen.patient("hashing the weights"):
        proved = read_proof(where, parse_trust(trust))
        check_network(str(where), proved.network, trusted)
        compare_weights(where, proved)
    known = "the network of this home" if trusted is not None and not network else "as you said"
    whose = known if trusted is not None else "which you must know by yourself: --network HEX"
    row = {
        "dir": str(where),
        "network": proved.network.hex(),
        "is_trusted": trusted is not None,
        "trusted_epoch": trust or None,
        "run": proved.spec.name,
        "round": proved.round,
        "height": proved.height,
        "stages": len(proved.roots),
        "roots": [root.hex() for root in proved.roots],
    }
    lines = [
        f"{where}: the checkpoint of round {proved.round} of run {proved.spec.name}, every weight",
        f"final in block {proved.height} of network {proved.network.hex()[:16]}, {whose}",
    ]
    screen.data(row, lines)


def trusted_network(home: Path, network: str) -> "Digest | None":
    """Return the network that the user trusts: by name, else that of this home; None if there is neither."""
    from swarm.node.start import saved_genesis
    from swarm.types import Digest

    if network:
        try:
            raw = bytes.fromhex(network)
        except ValueError:
            raw = b""
        if len(raw) != 32:
            raise UsageError(
                "a network is named by 64 hexadecimal digits", hint="swarm ledger show --json"
            )
        return Digest(raw)
    try:
        held = saved_genesis(home)
    except SwarmError:
        return None
    return None if held is None else held.chain


def check_network(what: str, network: "Digest", trusted: "Digest | None") -> None:
    """Raise ``VerificationFailed`` if something is of another network than the one that is trusted."""
    if trusted is not None and trusted != network:
        raise VerificationFailed(
            f"{what} is of network {network.hex()[:16]}, not {trusted.hex()[:16]}"
        )


def parse_trust(text: str) -> "TrustedEpoch | None":
    """Read ``EPOCH:DIGEST``, None for an empty text; raise ``UsageError``."""
    from swarm.ledger.light import TrustedEpoch
    from swarm.types import Digest

    if not text:
        return None
    epoch, _, digest = text.strip().partition(":")
    try:
        raw = bytes.fromhex(digest)
    except ValueError:
        raw = b""
    if not epoch.isascii() or not epoch.isdigit() or len(epoch) > 12 or len(raw) != 32:
        raise UsageError(
            "--trust is EPOCH:DIGEST, a number and 64 hexadecimal digits",
            hint="swarm ledger handoffs   (of somebody you trust)",
        )
    return TrustedEpoch(int(epoch), Digest(raw))


def read_proof(folder: Path, trusted: "TrustedEpoch | None" = None) -> "ProvedModel":
    """Read the proof in a folder and check it; raises ``BadConfig`` if there is none."""
    from swarm.ledger.light import LIGHT_PROOF_BYTES_MAX
    from swarm.ledger.model_proof import PROOF_FILE, parse_model_proof, verify_model

    path = folder / PROOF_FILE
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="swarm export DIR writes one")
    if not path.is_file():
        raise BadConfig(
            f"{folder} has no {PROOF_FILE}: it was not exported from a checkpoint on a ledger",
            hint="swarm export DIR, from a home that takes part in the run",
        )
    try:
        with path.open("rb") as file:
            model = parse_model_proof(file.read(2 * LIGHT_PROOF_BYTES_MAX + 1))
        return verify_model(model, trusted)
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from None
    except PeerFault as fault:
        raise VerificationFailed(f"{path} proves nothing: {fault}") from None


def compare_weights(folder: Path, proved: "ProvedModel") -> None:
    """Raise ``VerificationFailed`` unless the folder holds the weights that were proved."""
    from swarm.primitives.commitments import hash_of
    from swarm.training.hf.load import open_folder, read_stage
    from swarm.training.model.stages import plans_of

    if proved.spec.adapter.rank:
        raise BadConfig(
            f"{folder} holds an adapter merged into its base: their sum has no hash on the ledger",
            hint="verify a run that trains all weights",
        )
    found = open_folder(folder)
    for stage, (plan, root) in enumerate(zip(plans_of(proved.spec), proved.roots, strict=True)):
        if hash_of(read_stage(found, plan)) != root:
            raise VerificationFailed(
                f"the weights of stage {stage} in {folder} are not those of round {proved.round}"
            )
