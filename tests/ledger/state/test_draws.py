"""Draws, complaints and panels are parts of a record: one encoding each, and no money of their own."""

from swarm.ledger.state.draws import Contest, Draw, Panel, PanelSeat
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.state.state import money_in
from swarm.primitives.codec import decode, encode, replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import numbered_key
from swarm.types import Amount, Height
from tests.ledger.checking import a_case

DRAW = Draw(Height(7), digest("test", b"beacon"), Amount(5_000))
SEATS = tuple(PanelSeat(numbered_key(i).peer, (1 << 63) - 1 - i, Amount(60)) for i in range(3))
PANEL = Panel(window=2, draws=(DRAW,), seats=SEATS, is_seated=True, heard=(numbered_key(9).peer,))
CONTEST = Contest(
    check=0,
    window=2,
    height=Height(9),
    bond=Amount(20),
    draw=DRAW,
    served=(),
    refused=(numbered_key(4).peer,),
    end=Height(30),
    is_open=True,
)


def test_a_panel_and_a_complaint_have_one_encoding() -> None:
    """With the greatest dice that there are."""
    assert decode(Panel, encode(PANEL), limit=1 << 10) == PANEL
    assert decode(Contest, encode(CONTEST), limit=1 << 10) == CONTEST


def test_a_panel_holds_no_money_and_a_complaint_its_bond() -> None:
    """The bonds of those that sit are in their checks."""
    record = a_case().record
    doubted = replace(record, phase=SegmentPhase.DOUBTED, panel=PANEL)
    assert money_in(doubted) == money_in(record)
    assert money_in(replace(record, contests=(CONTEST,))) == money_in(record) + CONTEST.bond
