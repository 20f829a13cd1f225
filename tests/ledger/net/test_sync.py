"""A follower believes a reply only as far as one finalization proves it."""

import pytest

from swarm.errors import BadEncoding, PeerFault
from swarm.ledger.blocks import Block, Certificate, Validator
from swarm.ledger.chain import extend, genesis_head
from swarm.ledger.net import sync
from swarm.ledger.net.sync import (
    FULL_REST_S,
    NOTHING_YET,
    PROBE_TURNS,
    UNCONNECTED_MAX,
    WAIT_MS_MAX,
    FollowReply,
    FollowRequest,
    Read,
    Sources,
    check_reply,
    compose_reply,
    parse_genesis,
    parse_reply,
    parse_request,
)
from swarm.ledger.transactions import Validate
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import Height, PeerId


def a_chain(count: int = 6) -> InMemoryLedger:
    stage = InMemoryLedger(num_validators=4)
    stage.empty_blocks(count)
    return stage


def reader(stage: InMemoryLedger, *certified: int) -> Read:
    """Reads the chain; only some heights have a finalization of their own."""

    def read(height: Height) -> tuple[Block, Certificate | None] | None:
        if not 1 <= height <= len(stage.links):
            return None
        block, certificate = stage.links[height - 1]
        return block, certificate if not certified or height in certified else None

    return read


def composed(from_height: Height, read: Read, epoch_blocks: int = 60) -> FollowReply:
    return compose_reply(from_height, read, epoch_blocks)


def believed(stage: InMemoryLedger, reply: FollowReply, after: int = 0) -> tuple[Block, ...]:
    parent = stage.links[after][0].header.parent
    again = parse_reply(encode(reply))
    return check_reply(
        again,
        parent=parent,
        height=Height(after),
        epoch=(after + 1) // stage.genesis.epoch_blocks,
        chain=stage.genesis.chain,
        validators=stage.state.validators,
    )


def test_a_follower_catches_up_from_any_height() -> None:
    stage = a_chain()
    for after in (0, 3, 5):
        blocks = believed(stage, composed(Height(after + 1), reader(stage)), after)
        assert [block.header.height for block in blocks] == list(range(after + 1, 7))
    head = genesis_head(stage.genesis)
    for block in believed(stage, composed(Height(1), reader(stage))):
        head = extend(head, block)
    assert head == stage.head


@pytest.mark.rule("L30")
def test_only_what_a_finalization_covers_is_sent() -> None:
    stage = a_chain()
    reply = composed(Height(1), reader(stage, 2, 4))
    assert len(believed(stage, reply)) == 4
    assert composed(Height(5), reader(stage, 2, 4)) == NOTHING_YET
    assert composed(Height(9), reader(stage)) == NOTHING_YET
    assert believed(stage, NOTHING_YET) == ()


def test_headers_bridge_from_a_full_reply_to_a_distant_finalization(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sync, "REPLY_BLOCKS_MAX", 2)
    stage = a_chain()
    reply = composed(Height(1), reader(stage, 5))
    assert (len(reply.blocks), len(reply.headers)) == (2, 3)
    assert len(believed(stage, reply)) == 2
    monkeypatch.setattr(sync, "REPLY_HEADERS_MAX", 2)
    assert composed(Height(1), reader(stage, 5)) == NOTHING_YET
    with pytest.raises(PeerFault):
        believed(stage, reply)


def lies(stage: InMemoryLedger) -> list[FollowReply]:
    whole = composed(Height(1), reader(stage))
    assert whole.certificate is not None
    blocks = whole.blocks
    moved = replace(blocks[2], header=replace(blocks[2].header, state_root=digest("x", b"lie")))
    return [
        replace(whole, blocks=blocks[1:]),
        replace(whole, blocks=blocks[:-1]),
        replace(whole, blocks=(*blocks[:2], *blocks[3:])),
        replace(whole, blocks=(*blocks[:2], moved, *blocks[3:])),
        replace(whole, blocks=(replace(blocks[0], transactions=(b"x",)), *blocks[1:])),
        replace(whole, blocks=()),
        replace(whole, certificate=None),
        replace(whole, certificate=stage.links[1][1]),
        replace(whole, certificate=replace(whole.certificate, signatures=())),
        replace(whole, headers=(blocks[0].header,)),
    ]


@pytest.mark.rule("L30", "S20")
@pytest.mark.parametrize("number", range(10))
def test_a_lie_is_the_peers_fault(number: int) -> None:
    stage = a_chain()
    with pytest.raises(PeerFault):
        believed(stage, lies(stage)[number])


@pytest.mark.rule("L30")
def test_a_reply_of_another_chain_is_refused() -> None:
    stage, other = a_chain(), InMemoryLedger(num_validators=4, name="other")
    other.empty_blocks(3)
    with pytest.raises(PeerFault):
        believed(stage, composed(Height(1), reader(other)))


def test_requests_are_bounded() -> None:
    good = FollowRequest(Height(5), WAIT_MS_MAX)
    assert parse_request(encode(good)) == good
    for wrong in (
        replace(good, wait_ms=WAIT_MS_MAX + 1),
        replace(good, wait_ms=-1),
        replace(good, from_height=-1),
    ):
        with pytest.raises(BadEncoding):
            parse_request(encode(wrong))
    with pytest.raises(BadEncoding):
        parse_request(bytes(65))


@pytest.mark.rule("S20")
def test_a_genesis_is_known_by_its_name() -> None:
    genesis = a_chain(0).genesis
    assert parse_genesis(encode(genesis), genesis.chain[:16]) == genesis
    for data, chain16 in (
        (encode(genesis), bytes(16)),
        (encode(genesis), b""),
        (encode(replace(genesis, name="other")), genesis.chain[:16]),
        (b"junk", genesis.chain[:16]),
    ):
        with pytest.raises(PeerFault):
            parse_genesis(data, chain16)
    broken = replace(genesis, validators=())
    with pytest.raises(BadEncoding):
        parse_genesis(encode(broken), broken.chain[:16])


def test_a_reply_ends_with_its_epoch_and_three_of_them_cross_three_sets_of_validators() -> None:
    stage = InMemoryLedger(5, 1, epoch_blocks=10)
    stage.block(*(stage.sign(key, Validate(is_on=True)) for key in stage.keys[1:5]))
    stage.empty_blocks(24)
    head, lengths = genesis_head(stage.genesis), list[int]()
    while head.state.height < 25:
        height = head.state.height
        reply = compose_reply(Height(height + 1), reader(stage), 10)
        blocks = check_reply(
            reply,
            parent=head.digest,
            height=Height(height),
            epoch=head.state.next_epoch,
            chain=stage.genesis.chain,
            validators=head.state.validators,
        )
        for block in blocks:
            head = extend(head, block)
        lengths.append(len(blocks))
    assert lengths == [9, 10, 6]
    assert head == stage.head


@pytest.mark.rule("L30")
def test_blocks_of_another_epoch_are_refused() -> None:
    stage = InMemoryLedger(5, 4, epoch_blocks=10)
    stage.empty_blocks(15)
    links = stage.links[8:12]
    reply = replace(
        NOTHING_YET, blocks=tuple(block for block, _ in links), certificate=links[-1][1]
    )
    with pytest.raises(PeerFault, match="other epochs"):
        check_reply(
            reply,
            parent=links[0][0].header.parent,
            height=Height(8),
            epoch=0,
            chain=stage.genesis.chain,
            validators=stage.state.validators,
        )


def test_a_follower_believes_only_the_validators_of_the_epoch_it_is_in() -> None:
    """A founder that handed over cannot feed blocks of its own to those that come later."""
    stage = InMemoryLedger(5, 1, epoch_blocks=10)
    founders = stage.state.validators
    stage.block(*(stage.sign(key, Validate(is_on=True)) for key in stage.keys[1:5]))
    stage.empty_blocks(24)
    voters, reply = stage.state.validators, composed(Height(20), reader(stage), 10)

    def believe(answer: FollowReply, validators: tuple[Validator, ...]) -> tuple[Block, ...]:
        return check_reply(
            answer,
            parent=stage.links[19][0].header.parent,
            height=Height(19),
            epoch=2,
            chain=stage.genesis.chain,
            validators=validators,
        )

    assert len(believe(reply, voters)) == 6
    assert reply.certificate is not None
    index = [voter.peer for voter in voters].index(founders[0].peer)
    vote = reply.certificate.signatures[index]
    alone = replace(reply.certificate, bitmap=1 << index, signatures=(vote,))
    with pytest.raises(PeerFault):
        believe(replace(reply, certificate=alone), voters)
    with pytest.raises(PeerFault):
        believe(reply, founders)


def test_headers_do_not_lead_from_one_epoch_to_the_next() -> None:
    stage = InMemoryLedger(5, 4, epoch_blocks=10)
    stage.empty_blocks(15)
    assert composed(Height(8), reader(stage, 12), 10) == NOTHING_YET
    assert len(composed(Height(8), reader(stage, 9, 12), 10).blocks) == 2
    assert len(composed(Height(10), reader(stage, 9, 12), 10).blocks) == 3
    links = stage.links[6:12]
    blocks, headers = (links[0][0], links[1][0]), tuple(block.header for block, _ in links[2:])
    with pytest.raises(PeerFault, match="other epochs"):
        check_reply(
            replace(NOTHING_YET, blocks=blocks, headers=headers, certificate=links[-1][1]),
            parent=blocks[0].header.parent,
            height=Height(6),
            epoch=0,
            chain=stage.genesis.chain,
            validators=stage.state.validators,
        )


@pytest.mark.rule("L62")
def test_a_reply_says_from_where_on_its_sender_has_blocks() -> None:
    stage = a_chain()
    assert believed(stage, replace(NOTHING_YET, first=Height(4), is_full=True)) == ()
    with pytest.raises(PeerFault):
        believed(stage, replace(NOTHING_YET, headers=(stage.links[0][0].header,)))


A, B, C, D, E = (numbered_key(number).peer for number in range(5))
VOTERS = frozenset({A, B})


@pytest.mark.rule("L63")
def test_who_delivers_is_asked_again_and_another_now_and_then_what_it_has() -> None:
    sources, probed = Sources(0), list[PeerId]()
    assert set(sources.order([A, B, C], [], VOTERS, 0.0)[:2]) == {A, B}
    assert sources.probed([A, B, C]) is None
    sources.delivered(C)
    for _ in range(10 * PROBE_TURNS):
        assert sources.order([A, B, C], [], VOTERS, 0.0)[0] == C
        other = sources.probed([A, B, C])
        probed += [other] if other else []
    assert len(probed) == 10
    assert set(probed) == {A, B}
    assert sources.probed([C]) is None
    assert all(
        sorted(sources.order([A, B, C], [], VOTERS, 0.0)) == sorted([A, B, C]) for _ in range(9)
    )


@pytest.mark.rule("L63")
def test_who_is_full_or_failed_comes_later_for_a_while() -> None:
    sources = Sources(0)
    sources.full(A, 0.0)
    sources.delivered(B)
    sources.failed(B, 0.0)
    for _ in range(9):
        assert sources.order([A, B, C], [D], VOTERS, 1.0) == [C, A, D, B]
    assert set(sources.order([A, B, C], [], VOTERS, FULL_REST_S + 1)[:2]) == {A, B}
    assert sources.order([], [], VOTERS, 0.0) == []


@pytest.mark.rule("L63")
def test_peers_without_a_connection_are_tried_too_but_a_few_at_a_time() -> None:
    sources, strangers = Sources(0), [numbered_key(number).peer for number in range(5, 30)]
    order = sources.order([C], strangers, VOTERS, 0.0)
    assert order[0] == C
    assert len(order) == 1 + UNCONNECTED_MAX
    seen = {peer for _ in range(60) for peer in sources.order([C], strangers, VOTERS, 0.0)}
    assert seen == {C, *strangers}
