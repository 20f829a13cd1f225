"""Publish the weights that a run goes on from: a folder of transformers' Llama, cut into stages.

Shell: reads this machine's disk and adds blobs.
"""

from pathlib import Path

import trio

from swarm.compute import ComputePort
from swarm.events import EventKind
from swarm.gossip.blobs import Blobs
from swarm.node.reports import Reports
from swarm.spec import RunSpec
from swarm.training.checkpoint import phi_bytes
from swarm.training.dataset_files import tokenizer_root
from swarm.training.hf_import import HfFolder, open_folder, read_stage
from swarm.training.stages import plan_stages
from swarm.types import NO_DIGEST, Digest


async def opened_start(base: Path, name: str) -> HfFolder:
    """The folder of ``init_from``, looked at; raises ``BadConfig`` when it is no Llama of ours."""
    return await trio.to_thread.run_sync(_opened, base, name)


async def publish_start(
    start: HfFolder, spec: RunSpec, blobs: Blobs, compute: ComputePort, report: Reports
) -> tuple[Digest, ...]:
    """Make the initial weights of every stage fetchable, one stage in memory at a time; returns their names.

    Raises ``BadConfig`` for a value that is not finite, or a disk that is full.
    """
    report(EventKind.PROGRESS, f"reading the weights of {start.folder}")
    if start.tokenizer and tokenizer_root(start.tokenizer) != spec.data.tokenizer_root:
        kind = "bytes" if spec.data.tokenizer_root == NO_DIGEST else "another tokenizer"
        report(
            EventKind.WARNING,
            f"the text of this run is cut by {kind}, and {start.folder} has a tokenizer of its own: the model"
            " must learn its tokens anew; try: swarm data build --tokenizer",
        )
    roots = list[Digest]()
    for plan in plan_stages(spec.model, spec.num_stages):
        phi_P = await compute.run(read_stage, start, plan)
        roots.append(await blobs.add(phi_bytes(phi_P), dtype="float32", shape=tuple(phi_P.shape)))
    return tuple(roots)


def _opened(base: Path, name: str) -> HfFolder:
    return open_folder(base / Path(name).expanduser())
