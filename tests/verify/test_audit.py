"""An audit says what the logs show, names the first leaf that is false, and gives proof to strangers."""

import pytest

from swarm.errors import BadEncoding, BadSignature
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, Digest
from swarm.verify.audit import (
    EVIDENCE_BYTES_MAX,
    AuditEvidence,
    AuditResult,
    AuditVerdict,
    decode_evidence,
    encode_evidence,
    first_difference,
    judge_logs,
    shown_leaves,
)
from swarm.verify.judging import window_of
from swarm.verify.manifest import sign_manifest
from swarm.verify.replay import REFUSED, Answer
from tests.ledger.checking import Case, a_case

SALT = bytes(range(32))


def evidence_of(case: Case, answer: Answer, window: int = 0) -> AuditEvidence:
    chain, run_digest = case.ledger.state.chain, case.run.spec_digest
    key, root = window_of(case.record, window), Digest(digest("test", encode(answer.leaves)))
    manifest = sign_manifest(case.solver, chain, run_digest, key, root, 1000)
    parts = (chain, run_digest, case.record.peer, manifest)
    return AuditEvidence(*parts, answer.leaves, answer.end_root)


def audited(case: Case, *answers: Answer, window: int = 0) -> AuditResult:
    replayed = [(evidence_of(case, answer, window), answer) for answer in answers]
    shown = None
    if case.record.windows:
        shown = shown_leaves(case.record, window, case.claimed.reveal())
    key = window_of(case.record, window)
    return judge_logs(case.record, case.run.spec, key, replayed, shown)


def true_answer(case: Case, window: int = 0) -> Answer:
    return Answer(*case.true.window(window))


def test_an_honest_window_is_honest_and_nobody_is_accused() -> None:
    case = a_case(num_steps=20)
    case.up_to_reveal()
    for window in (0, 1):
        result = audited(case, true_answer(case, window), window=window)
        assert result.verdict is AuditVerdict.HONEST
        assert result.found == result.claim == case.record.windows[window].claim
        assert result.first_difference is None
        assert result.accusation(SALT) is None


def test_a_lie_is_named_by_its_leaf_and_can_be_reported() -> None:
    case = a_case(lie=1, num_steps=20)
    case.up_to_reveal()
    assert audited(case, true_answer(case)).verdict is AuditVerdict.HONEST
    result = audited(case, true_answer(case, 1), window=1)
    assert result.verdict is AuditVerdict.FRAUD
    leaves, _ = case.true.window(1)
    assert result.first_difference == len(leaves) - 1
    assert "leaf 10 of 11" in result.text
    me = case.able[0].peer
    answer = result.accusation(case.true.answer(me, 1)[1].salt)
    assert answer is not None
    assert (answer.leaves, answer.end_root) == case.true.window(1)
    assert answer.reported(me) == case.true.report(me, 1)
    assert answer.shown() == case.true.answer(me, 1)[1]


def test_a_report_tells_nobody_what_its_answer_is() -> None:
    case = a_case(lie=1, num_steps=20)
    case.up_to_reveal()
    result = audited(case, true_answer(case, 1), window=1)
    leaves, end_root = case.true.window(1)
    blind = set[Digest]()
    for salt in (SALT, bytes(range(1, 33))):
        answer = result.accusation(salt)
        assert answer is not None
        for key in case.able:
            report = answer.reported(key.peer)
            assert not [part for part in (*leaves, end_root, salt) if part in encode(report)]
            blind.add(report.commitment)
    assert len(blind) == 2 * len(case.able), "another salt or another peer: another commitment"


def test_one_false_log_among_honest_ones_is_a_fraud() -> None:
    case = a_case()
    case.up_to_reveal()
    result = audited(case, true_answer(case), REFUSED)
    assert result.verdict is AuditVerdict.FRAUD
    assert result.answer == REFUSED
    assert result.evidence is not None
    assert result.evidence.leaves == (NO_DIGEST,)


@pytest.mark.rule("V32")
def test_what_was_not_shown_yet_can_only_be_false_at_its_end() -> None:
    case = a_case(num_steps=20)
    result = audited(case, true_answer(case))
    assert result.verdict is AuditVerdict.NOT_REVEALED
    assert result.claim is None
    assert result.accusation(SALT) is None, "its solver must show its leaves anyway"
    wrong = replace_end(true_answer(case, 1))
    found = audited(case, wrong, window=1)
    assert found.verdict is AuditVerdict.FRAUD
    assert found.accusation(SALT) is not None
    assert audited(case, replace_end(true_answer(case))).verdict is AuditVerdict.NOT_REVEALED
    assert audited(case, REFUSED).verdict is AuditVerdict.FRAUD


def replace_end(answer: Answer) -> Answer:
    return Answer(answer.leaves, Digest(digest("test", b"other end")))


def test_what_nobody_serves_is_not_evidence() -> None:
    case = a_case()
    result = audited(case)
    assert result.verdict is AuditVerdict.NOT_SERVED
    assert (result.answer, result.evidence, result.accusation(SALT)) == (None, None, None)
    assert result.text


def test_a_stranger_believes_the_solvers_signature_and_nothing_else() -> None:
    case = a_case()
    evidence = evidence_of(case, true_answer(case))
    raw = encode_evidence(evidence)
    assert decode_evidence(raw) == evidence
    assert evidence.key == window_of(case.record, 0)
    forged = replace(evidence, peer=case.able[0].peer)
    with pytest.raises(BadSignature):
        decode_evidence(encode_evidence(forged))
    for wrong in (replace(evidence, leaves=()), replace(evidence, end_root=b"short")):
        with pytest.raises(BadEncoding):
            decode_evidence(encode_evidence(wrong))
    with pytest.raises(BadEncoding):
        decode_evidence(bytes(EVIDENCE_BYTES_MAX + 1))
    many = tuple(digest("leaf", bytes([i])) for i in range(256))
    assert len(encode_evidence(replace(evidence, leaves=many))) <= EVIDENCE_BYTES_MAX


def test_the_first_leaf_that_one_side_does_not_have_differs() -> None:
    a, b, c = (digest("leaf", bytes([i])) for i in range(3))
    assert first_difference([a, b], [a, b]) is None
    assert first_difference([a, b], [a, c]) == 1
    assert first_difference([a], [a, b]) == 1
    assert first_difference([b], [a, b]) == 0
