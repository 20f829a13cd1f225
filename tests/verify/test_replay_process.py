"""A log's bytes give one answer; what our disk has changed accuses nobody."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swarm.errors import BrokenPromise
from swarm.primitives import codec
from swarm.primitives.commitments import REFUSED, tensor_hash
from swarm.primitives.crypto import digest
from swarm.training.record.window_bytes import (
    encode_window,
)
from swarm.types import Digest, RoundIndex
from swarm.verify.answers import window_of
from swarm.verify.manifest import manifest_of, sign_manifest
from swarm.verify.replay import Committed
from swarm.verify.replay_process import FileReplays, Log
from swarm.verify.round_plan import past_plan
from swarm.verify.transcript import state_root
from tests.ledger.checking import a_case
from tests.verify.manifests import signed
from tests.verify.simulated_network import a_window
from tests.verify.windows import TOKENS as WINDOW_TOKENS
from tests.verify.windows import honest

TOKENS = np.zeros(9, np.uint8)


def a_log(path: Path, raw: bytes, root: Digest | None = None) -> Log:
    """A signed log with these bytes in it."""
    case = a_case()
    path.write_bytes(raw)
    plan = past_plan(case.ledger.state, case.run, RoundIndex(1))
    assert plan is not None
    root = root or tensor_hash("uint8", (len(raw),), raw)
    parts = (case.ledger.state.chain, case.run.spec_digest, window_of(case.record, 0), root)
    manifest = signed(case.solver, *parts, len(raw))
    start = case.record.start_root
    return Log(path, manifest, plan, Committed(start, case.record.num_steps, 1, ()))


@pytest.mark.rule("V18")
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not a log at all",
        b"".join(encode_window(a_window(a_case(), 0, is_last=True))),
        b"".join(encode_window(a_window(a_case(), 1, is_last=True))),
    ],
    ids=["empty", "nonsense", "wrong sizes", "another window"],
)
def test_signed_bytes_that_are_no_log_have_the_refused_answer(tmp_path: Path, raw: bytes) -> None:
    log = a_log(tmp_path / "log", raw)
    assert FileReplays().anchors(log) == frozenset()
    assert FileReplays().answer(log, TOKENS, {}) == REFUSED


@pytest.mark.rule("V20")
def test_a_log_that_the_disk_has_changed_is_no_log_of_its_solver(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", b"changed", digest("test", b"what was signed"))
    with pytest.raises(BrokenPromise):
        FileReplays().anchors(log)
    with pytest.raises(BrokenPromise):
        FileReplays().answer(log, TOKENS, {})


@pytest.mark.rule("V17", "V62")
def test_a_log_in_a_file_gives_what_its_solver_says(tmp_path: Path) -> None:
    crop = honest(1, "seq-f32/1")
    segment = crop.segments[1, 0, 1]
    for data, said in zip(segment.windows, segment.claims(), strict=True):
        raw = b"".join(encode_window(data))
        (tmp_path / "log").write_bytes(raw)
        root = tensor_hash("uint8", (len(raw),), raw)
        plan, secret = segment.plan, crop.secrets[0, 1]
        unsigned = manifest_of(data, root, len(raw))
        assert unsigned.start == said.start_root, "its seat has hashed it"
        manifest = sign_manifest(secret, plan.chain, plan.run_digest, unsigned)
        done = segment.log
        start = state_root(done.start)
        committed = Committed(start, done.num_steps, 1 + done.seat, done.sent)
        log = Log(tmp_path / "log", manifest, plan, committed)
        assert FileReplays().anchors(log) <= set(crop.anchors[0])
        assert FileReplays().answer(log, WINDOW_TOKENS, crop.anchors[0]) == said
        other = replace(log, committed=replace(committed, start_root=root))
        for what in ("start", "inputs"):
            false = sign_manifest(
                secret, plan.chain, plan.run_digest, codec.replace(unsigned, **{what: root})
            )
            unlike = replace(log, manifest=false)
            assert FileReplays().answer(unlike, WINDOW_TOKENS, crop.anchors[0]) == REFUSED
        is_refused = FileReplays().answer(other, WINDOW_TOKENS, crop.anchors[0]) == REFUSED
        assert is_refused == (data.key.window == 0)
