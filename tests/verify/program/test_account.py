"""An account is all that is behind a claim, and two of them differ somewhere first."""

import pytest

from swarm.errors import PeerFault
from swarm.primitives.codec import replace
from swarm.verify.program.account import (
    Account,
    Kind,
    account_of,
    first_difference,
    result_of,
)
from tests.verify.program.scenes import ANYWHERE, scene


@pytest.mark.rule("V42")
@pytest.mark.parametrize(("stage", "number"), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])
def test_an_account_of_an_honest_log_is_the_one_behind_its_claim(stage: int, number: int) -> None:
    here = scene(stage, number)
    assert result_of(here.account).claim == here.window.claim
    log = here.log
    assert account_of(log.plan, log.data, log.tokens, log.anchors) == here.account


@pytest.mark.rule("V42")
def test_a_first_difference_is_a_leaf_a_state_or_an_event_that_only_one_has() -> None:
    account = scene(0).account
    assert first_difference(account, account) is None
    for event in range(len(account.kinds)):
        states = (*account.states[:event], ANYWHERE, *account.states[event + 1 :])
        assert first_difference(account, replace(account, states=states)) == event
    fewer = replace(
        account, kinds=account.kinds[:-1], leaves=account.leaves[:-1], states=account.states[:-1]
    )
    assert first_difference(account, fewer) == len(fewer.kinds)
    assert first_difference(fewer, account) == len(fewer.kinds)


@pytest.mark.rule("V42")
def test_a_malformed_account_is_refused() -> None:
    account = scene(0).account
    for lie in (
        replace(account, start=b""),
        replace(account, kinds=account.kinds[:-1]),
        replace(account, kinds=(9, *account.kinds[1:])),
        replace(account, leaves=(b"", *account.leaves[1:]), kinds=(Kind.STEP, *account.kinds[1:])),
        replace(account, states=(*account.states[:-1], b"")),
        Account(account.start, (), (), (), 0),
    ):
        with pytest.raises(PeerFault):
            result_of(lie)
