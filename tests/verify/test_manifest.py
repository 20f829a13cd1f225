"""A manifest is its solver's word for one window of one run on one chain, and fits into a kilobyte."""

import pytest

from swarm.errors import BadEncoding, BadSignature, BrokenPromise, PeerFault
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.training.record.window import WindowKey
from swarm.types import RoundIndex, RunIndex, StageIndex
from swarm.verify.manifest import (
    LOG_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    MANIFESTS_MAX,
    REQUEST_BYTES_MAX,
    WindowFound,
    WindowManifest,
    WindowMissing,
    check_manifest,
    decode_reply,
    decode_request,
    request_of,
)
from tests.verify.manifests import signed

SOLVER = SecretKey.from_seed(b"\x01" * 32)
OTHER = SecretKey.from_seed(b"\x02" * 32)
CHAIN, RUN = digest("test", b"chain"), digest("test", b"run")
KEY = WindowKey(RunIndex(65535), RoundIndex(65535), StageIndex(255), 65535, 255)
ROOT = digest("test", b"blob")


def a_manifest(root: bytes = ROOT, num_bytes: int = LOG_BYTES_MAX) -> WindowManifest:
    return signed(SOLVER, CHAIN, RUN, KEY, digest("test", root), num_bytes)


def read(reply: object, peer: SecretKey = SOLVER) -> tuple[WindowManifest, ...]:
    return decode_reply(encode(reply), KEY, peer.peer, CHAIN, RUN)


def test_a_question_and_its_answer_are_read_as_they_were_written() -> None:
    raw = encode(request_of(KEY))
    assert len(raw) <= REQUEST_BYTES_MAX
    assert decode_request(raw) == KEY
    found = (a_manifest(b"one"), a_manifest(b"two"))
    assert len(encode(found[0])) <= MANIFEST_BYTES_MAX
    assert read(WindowFound(found)) == found
    assert read(WindowMissing()) == ()
    assert found[0].key == KEY


@pytest.mark.rule("V19")
def test_only_the_solvers_word_for_this_window_run_and_chain_counts() -> None:
    good = a_manifest()
    check_manifest(good, KEY, SOLVER.peer, CHAIN, RUN)
    with pytest.raises(BadSignature):
        check_manifest(good, KEY, OTHER.peer, CHAIN, RUN)
    with pytest.raises(BadSignature):
        check_manifest(good, KEY, SOLVER.peer, RUN, RUN)
    with pytest.raises(BadSignature):
        check_manifest(good, KEY, SOLVER.peer, CHAIN, CHAIN)
    for change in ({"window": 3}, {"seat": 1}, {"round": 2}):
        with pytest.raises(BrokenPromise):
            check_manifest(replace(good, **change), KEY, SOLVER.peer, CHAIN, RUN)
    for wrong in (replace(good, num_bytes=17), replace(good, root=CHAIN)):
        with pytest.raises(BadSignature):
            check_manifest(wrong, KEY, SOLVER.peer, CHAIN, RUN)


@pytest.mark.rule("V19")
@pytest.mark.parametrize("num_bytes", [0, -1, LOG_BYTES_MAX + 1])
def test_a_log_of_absurd_length_is_no_log(num_bytes: int) -> None:
    with pytest.raises(BadEncoding):
        check_manifest(a_manifest(num_bytes=num_bytes), KEY, SOLVER.peer, CHAIN, RUN)


@pytest.mark.rule("V22")
def test_a_reply_holds_at_least_one_and_at_most_two_manifests() -> None:
    many = tuple(a_manifest(bytes([i])) for i in range(MANIFESTS_MAX + 1))
    for wrong in (WindowFound(()), WindowFound(many), many[0], "nonsense"):
        with pytest.raises(PeerFault):
            read(wrong)
    with pytest.raises(BadEncoding):
        decode_reply(bytes(8 << 10), KEY, SOLVER.peer, CHAIN, RUN)


@pytest.mark.parametrize("change", [{"window": -1}, {"window": 256}, {"run": 0}, {"seat": -1}])
def test_a_question_out_of_bounds_is_a_fault(change: dict[str, int]) -> None:
    with pytest.raises(BadEncoding):
        decode_request(encode(replace(request_of(KEY), **change)))
