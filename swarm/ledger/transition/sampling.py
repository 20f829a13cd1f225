"""Select the verifiers of a segment by VRF draws whose result only the drawn peer knows at first.

Core: pure functions of a record and a key. Source: docs/spec/verification.md section 3.

Some blocks after a commit the beacon is noted in its record. Every peer with the stake of a solver proves by
VRF over that beacon, hashed with the segment, whether it is drawn, in proportion to its stake; on average at
most 2q are. A stake in many accounts is drawn no more often than in one, and an account below the stake of a
solver is drawn for nothing. If no verifier asks for a window, verifiers are drawn again. The solver, its
trading partners of that round (but not a volunteer's), and stakes that grew since the commit are excluded: a
peer that could choose its key or its stake after the beacon would draw itself.

Once the time for requests is over, a later beacon deals the windows of the segment to those that have asked:
different ones, as far as there are. Who asks first, or for many, cannot choose: a window that was named by its
verifier, or went to who came first, would be taken by a friend of the liar where the lie is.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from swarm.config.spec import NANO, RunSpec
from swarm.errors import InvalidStatement, Reason
from swarm.gossip.pairing import SeatKey, final_trades, pair_up
from swarm.ledger.state.draws import Contest, Draw, Panel
from swarm.ledger.state.records import RoundInfo, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition.prices import solver_stake
from swarm.primitives import vrf
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey, digest, framed
from swarm.primitives.randomness import stream
from swarm.types import Amount, Digest, PeerId, RoundIndex, StageIndex

REDRAW_BLOCKS_MIN = 3
"""Blocks per draw, at least: a request needs a block to become final and one to be made."""

ROSTERS_CACHED = 256
"""Stages whose pairs are cached: all seats of a stage commit within the same few blocks."""


BARE_FACTOR = 4
"""So many times as many verifiers are drawn if a lie would cost its solver no more than the pay of the lie."""


def draw_probability(spec: RunSpec, *, is_volunteer: bool, stake: int, reward_max: int) -> int:
    """Return half of the verifiers that a draw should select for a segment, in billionths.

    Every segment of a volunteer has verifiers drawn. One that has less at stake than this segment could earn
    loses by a lie only what the lie would earn, so that must be found more often than it pays: with
    twice one verifier half of the first lies of free keys stood, where a third of the stake helped them.
    """
    if is_volunteer and stake < reward_max:
        return BARE_FACTOR * NANO
    return NANO if is_volunteer else spec.checks.probability_nano


def redraw_blocks(spec: RunSpec) -> int:
    """Return the blocks after a draw in which requests are accepted.

    It is also the time after the first request in which more are, until windows are dealt.
    """
    return max(spec.round_blocks // 2, REDRAW_BLOCKS_MIN)


def num_windows(num_steps: int, window_steps: int) -> int:
    """Return the number of windows of a segment, the last of which may be shorter.

    A segment of the final averaging, without steps, is one window.
    """
    return max(-(-num_steps // window_steps), 1)


def draw_alpha(chain: Digest, draw: Draw) -> bytes:
    """Return the input of a verifier's VRF proof: one proof serves all segments of a draw."""
    return framed("sortition", (chain, draw.beacon))


def prove_draw(secret: SecretKey, chain: Digest, draw: Draw) -> bytes:
    """Return the 80-byte proof for a ``DataRequest``; ``selects`` tells whether it selects the peer."""
    return vrf.prove(secret, draw_alpha(chain, draw))


def is_drawn(
    chain: Digest, draw: Draw, record: SegmentRecord, peer: PeerId, stake: Amount, proof: bytes
) -> bool:
    """Return True if a draw made ``peer`` a verifier of this segment, with this stake.

    Raises ``BadSignature`` if the proof is not its own.
    """
    return selects(draw, record, stake, vrf.verify(peer, draw_alpha(chain, draw), proof))


def selects(draw: Draw, record: SegmentRecord, stake: Amount, beta: bytes) -> bool:
    """Return True if a draw selects the peer that has this VRF output for it."""
    segment_id = encode((record.run, record.round, record.stage, record.seat))
    dice = digest("drawn", beta, segment_id, record.end_root)
    value = int.from_bytes(dice[:8], "big")
    return value * max(draw.stake, 1) * NANO < 2 * record.probability_nano * stake << 64


def deal_windows(
    beacon: Digest, record: SegmentRecord, windows: int, verifiers: int
) -> tuple[int, ...]:
    """Return the window that each of some verifiers checks, all in random order.

    No two have the same window before each window has one; nor three before each has two.
    """
    where = (record.run, record.round, record.stage, record.seat)
    dice = stream(beacon, "deal", *where, record.end_root)
    order = list(range(windows))
    for place in range(min(verifiers, windows)):
        other = place + dice.below(windows - place)
        order[place], order[other] = order[other], order[place]
    return tuple(dice.shuffled([order[number % windows] for number in range(verifiers)]))


WITNESSES = 12
"""Witnesses that are drawn for a complaint, on average, if all stake could be: a third of it is rarely most."""


def drawn_witness(
    chain: Digest,
    contest: Contest,
    record: SegmentRecord,
    peer: PeerId,
    stake: Amount,
    proof: bytes,
) -> bool:
    """Return True if ``peer`` is drawn as a witness of a complaint with this stake.

    Raises ``BadSignature`` if the proof is not its own. The complaint must have its draw.
    """
    assert contest.draw is not None, "its beacon is there"
    beta = vrf.verify(peer, draw_alpha(chain, contest.draw), proof)
    return own_witness(contest, record, stake, beta)


def own_witness(contest: Contest, record: SegmentRecord, stake: Amount, beta: bytes) -> bool:
    """Return True if this peer's VRF output for the draw of a complaint makes it a witness."""
    assert contest.draw is not None, "its beacon is there"
    segment_id = encode((record.run, record.round, record.stage, record.seat, contest.check))
    dice = digest("witness", beta, segment_id, record.end_root)
    value = int.from_bytes(dice[:8], "big")
    return value * max(contest.draw.stake, 1) < WITNESSES * stake << 64


PANEL_DRAWN = 12
"""Peers that a draw of a panel selects, on average, if all stake could be: the best three that come sit."""


def panel_dice(
    chain: Digest,
    panel: Panel,
    record: SegmentRecord,
    peer: PeerId,
    stake: Amount,
    proof: bytes,
) -> int | None:
    """Return the dice with which ``peer`` may sit on a panel with this stake; None if it is not drawn.

    Raises ``BadSignature`` if the proof is not its own. The panel must have a draw.
    """
    beta = vrf.verify(peer, draw_alpha(chain, panel.draws[-1]), proof)
    return own_dice(panel, record, stake, beta)


def own_dice(panel: Panel, record: SegmentRecord, stake: Amount, beta: bytes) -> int | None:
    """Return the dice of this peer's VRF output for the last draw of a panel; None if it is not drawn."""
    segment_id = encode((record.run, record.round, record.stage, record.seat, panel.window))
    dice = digest("panel", beta, segment_id, record.end_root)
    value, draw = int.from_bytes(dice[:8], "big"), panel.draws[-1]
    return value >> 1 if value * max(draw.stake, 1) < PANEL_DRAWN * stake << 64 else None


def check_eligible(reader: Reader, record: SegmentRecord, spec: RunSpec, peer: PeerId) -> Amount:
    """Return the stake with which ``peer`` may be drawn; raise ``InvalidStatement`` if it may not."""
    if peer == record.peer or peer in record.partners:
        raise InvalidStatement(Reason.WRONG_PEER, "it trained this, or traded with who did")
    account, least = reader.account(peer), solver_stake(reader.globals.params, spec)
    if account.stake < least:
        raise InvalidStatement(Reason.STAKE, f"{account.stake} where a verifier has {least}")
    if account.staked_height >= record.height:
        raise InvalidStatement(Reason.STAKE, "its stake grew since the segment was committed")
    return account.stake


def record_draw(reader: Reader, record: SegmentRecord) -> Draw:
    """Return the draw of this block for a segment."""
    globals_ = reader.globals
    out = sum(reader.account(peer).stake for peer in (record.peer, *record.partners))
    return Draw(globals_.height, globals_.beacon, Amount(globals_.staked - out))


def partners_of(
    info: RoundInfo, spec: RunSpec, digest: Digest, stage: int, seat: int
) -> Sequence[PeerId]:
    """Return the peers paired with a seat by the beacon in a round, over all fragments, sorted.

    Where each fragment is traded several times in a round, these are the partners of its first trade: over all
    trades a seat meets every peer of a small stage, and none would be left to check it. The peer of the seat
    itself, which may hold other seats, is not among them.
    """
    roster = tuple(SeatKey(other.index, other.peer) for other in info.seats[stage])
    me = next(key for key in roster if key.index == seat)
    if info.consensus >= 0:
        trades = final_trades(roster, info.beacon, digest, StageIndex(stage), info.consensus)
        return tuple(sorted({trades[me].partner.peer} - {me.peer} if me in trades else ()))
    pairs = _pairs(roster, info.beacon, digest, StageIndex(stage), spec.outer.fragments, info.round)
    return tuple(sorted({fragment[me].peer for fragment in pairs if me in fragment}))


@lru_cache(maxsize=ROSTERS_CACHED)
def _pairs(
    roster: tuple[SeatKey, ...],
    beacon: Digest,
    digest: Digest,
    stage: StageIndex,
    fragments: int,
    round_: RoundIndex,
) -> tuple[Mapping[SeatKey, SeatKey], ...]:
    """Return the pairs of every fragment's first trade; cached because each seat of the stage asks for the
    same.
    """
    return tuple(
        pair_up(roster, beacon, digest, stage, exchange, round_) for exchange in range(fragments)
    )
