"""An audit says what the logs show, names the window that is false, and gives proof to strangers."""

import pytest

from swarm.errors import BadEncoding, BadSignature
from swarm.ledger.check_statements import TOKENS_MAX
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import REFUSED, SALT_BYTES, WindowResult
from swarm.primitives.crypto import digest
from swarm.testing.ledger import verifier_salt
from swarm.types import Digest
from swarm.verify.answers import window_of
from swarm.verify.audit import (
    EVIDENCE_BYTES_MAX,
    AuditEvidence,
    AuditResult,
    AuditVerdict,
    decode_evidence,
    encode_evidence,
    judge_logs,
)
from tests.ledger.checking import Case, a_case
from tests.verify.manifests import signed

SALT = bytes(range(SALT_BYTES))


def evidence_of(case: Case, result: WindowResult, window: int = 0) -> AuditEvidence:
    chain, run_digest = case.ledger.state.chain, case.run.spec_digest
    key, root = window_of(case.record, window), Digest(digest("test", encode(result)))
    manifest = signed(case.solver, chain, run_digest, key, root, 1000)
    return AuditEvidence(chain, run_digest, case.record.peer, manifest, result)


def audited(case: Case, *results: WindowResult, window: int = 0) -> AuditResult:
    replayed = [evidence_of(case, result, window) for result in results]
    key = window_of(case.record, window)
    return judge_logs(case.record, case.run.spec, key, replayed)


def test_an_honest_window_is_honest_and_nobody_is_accused() -> None:
    case = a_case(num_steps=20)
    case.up_to_reveal()
    for window in (0, 1):
        result = audited(case, case.true.results[window], window=window)
        assert result.verdict is AuditVerdict.HONEST
        assert result.found == result.claim == case.record.claims[window]
        assert result.evidence == evidence_of(case, case.true.results[window], window)
        assert result.accusation(SALT) is None


def test_a_lie_is_named_by_its_window_and_can_be_reported() -> None:
    case = a_case(lie=1, num_steps=20)
    case.up_to_reveal()
    assert audited(case, case.true.results[0]).verdict is AuditVerdict.HONEST
    true, said = case.true.results[1], case.claimed.results[1]
    result = audited(case, true, window=1)
    assert result.verdict is AuditVerdict.FRAUD
    assert (result.found, result.claim) == (true.claim, said.claim)
    assert result.lines[0].startswith("window 1 of ")
    assert result.lines[0].endswith(" is false")
    me, state = case.ledger.keys[9].peer, case.ledger.state
    answer = result.accusation(verifier_salt(me))
    assert answer is not None
    assert answer.result == true
    assert answer.reported(me) == case.true.report(me, 1)
    place = case.true.check_of(state, me)
    assert place == len(case.record.checks)
    assert answer.shown(place, said.claim) == case.true.shown(state, me, 1)
    assert answer.shown(place, said.claim).claim == true.claim


def test_a_report_tells_nobody_what_its_answer_is() -> None:
    case = a_case(lie=1, num_steps=20)
    case.up_to_reveal()
    true = case.true.results[1]
    result = audited(case, true, window=1)
    secrets = (true.claim, true.leaves_root, true.start_root, true.end_root)
    blind = set[Digest]()
    for salt in (SALT, SALT[::-1]):
        answer = result.accusation(salt)
        assert answer is not None
        for key in case.able:
            report = answer.reported(key.peer)
            assert not [part for part in (*secrets, salt) if part in encode(report)]
            blind.add(report.commitment)
    assert len(blind) == 2 * len(case.able), "another salt or another peer: another commitment"


def test_one_false_log_among_honest_ones_is_a_fraud() -> None:
    case = a_case()
    case.up_to_reveal()
    false = case.true.with_lie(0).results[0]
    result = audited(case, case.true.results[0], false)
    assert result.verdict is AuditVerdict.FRAUD
    assert result.found == false.claim
    assert result.evidence is not None
    assert result.evidence.result == false


@pytest.mark.rule("V63", "V18")
def test_a_refused_log_is_none_and_nothing_of_it_can_be_reported() -> None:
    case = a_case()
    case.up_to_reveal()
    result = audited(case, REFUSED)
    assert result.verdict is AuditVerdict.REFUSED
    assert "cannot be an honest one" in result.text
    assert result.accusation(SALT) is None
    assert result.evidence is not None, "a stranger may see it, too"
    assert audited(case, REFUSED, case.true.results[0]).verdict is AuditVerdict.HONEST
    lie = case.true.with_lie(0).results[0]
    assert audited(case, REFUSED, lie).verdict is AuditVerdict.FRAUD


@pytest.mark.rule("V32")
def test_what_was_not_shown_yet_can_only_be_false_at_its_end() -> None:
    case = a_case(num_steps=20)
    first, last = case.true.results
    result = audited(case, first)
    assert result.verdict is AuditVerdict.NOT_REVEALED
    assert result.claim is None
    assert result.accusation(SALT) is None, "its solver must show its windows anyway"
    found = audited(case, with_another_end(last), window=1)
    assert found.verdict is AuditVerdict.FRAUD
    assert found.accusation(SALT) is not None
    assert audited(case, with_another_end(first)).verdict is AuditVerdict.NOT_REVEALED
    assert audited(case, REFUSED).verdict is AuditVerdict.REFUSED


def with_another_end(result: WindowResult) -> WindowResult:
    return replace(result, end_root=Digest(digest("test", b"other end")))


def test_what_nobody_serves_is_not_evidence() -> None:
    case = a_case()
    result = audited(case)
    assert result.verdict is AuditVerdict.NOT_SERVED
    assert (result.found, result.evidence, result.accusation(SALT)) == (None, None, None)
    assert result.text


def test_a_stranger_believes_the_solvers_signature_and_nothing_else() -> None:
    case = a_case()
    evidence = evidence_of(case, case.true.results[0])
    raw = encode_evidence(evidence)
    assert decode_evidence(raw) == evidence
    assert evidence.key == window_of(case.record, 0)
    forged = replace(evidence, peer=case.able[0].peer)
    with pytest.raises(BadSignature):
        decode_evidence(encode_evidence(forged))
    bent: list[dict[str, object]] = [
        {"leaves_root": b""},
        {"start_root": b"short"},
        {"end_root": bytes(33)},
        {"tokens": -1},
        {"tokens": TOKENS_MAX + 1},
    ]
    for changes in bent:
        wrong = replace(evidence, result=replace(evidence.result, **changes))
        with pytest.raises(BadEncoding):
            decode_evidence(encode_evidence(wrong))
    with pytest.raises(BadEncoding):
        decode_evidence(bytes(EVIDENCE_BYTES_MAX + 1))
    most = replace(evidence, result=replace(evidence.result, tokens=TOKENS_MAX))
    assert decode_evidence(encode_evidence(most)) == most
    refused = replace(evidence, result=REFUSED)
    assert decode_evidence(encode_evidence(refused)) == refused
