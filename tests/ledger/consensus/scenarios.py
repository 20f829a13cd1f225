"""What goes wrong in the histories of consensus, by name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """What goes wrong, until it heals."""

    count: int = 4
    powers: tuple[int, ...] = ()
    loss: float = 0.0
    delay_max_s: float = 0.3
    equivocators: tuple[int, ...] = ()
    whispers: bool = False
    """They tell each half of the others one thing, and nobody both."""
    forgers: tuple[int, ...] = ()
    """Validators that send what no honest one does, and sign one way."""
    crashes: tuple[int, ...] = ()
    """Validators that stop at random times, several times, and come back."""
    forgetful: tuple[int, ...] = ()
    """Those of them that come back without their vote log, and know it."""
    dead: tuple[int, ...] = ()
    """Validators that stop once and stay away."""
    dead_from_s: float = 2.0
    """The earliest time at which they stop; the latest is 8 s later."""
    left_side: tuple[int, ...] = ()
    """Cut off from the others between 8 s and 20 s."""
    heals_s: float = 20.0
    ends_s: float = 60.0
    height_min: int = 8
    """Blocks everybody alive must have at the end."""
    epoch_blocks: int = 1 << 20
    sets: tuple[tuple[int, ...], ...] = ()
    """Validators of each epoch, over and over; empty: all of them in every epoch."""
    real_keys: bool = False
    """Signatures are Ed25519, checked as the network checks them."""


SCENARIOS = {
    "one validator": Scenario(1, height_min=50),
    "one validator crashes": Scenario(1, crashes=(0,)),
    "two validators, loss": Scenario(2, loss=0.1),
    "two validators, one crashes": Scenario(2, crashes=(1,)),
    "four, clean": Scenario(4, height_min=45),
    "four, loss": Scenario(4, loss=0.1),
    "four, heavy loss": Scenario(4, loss=0.3),
    "four, slow network": Scenario(4, loss=0.05, delay_max_s=3.0),
    "four, slower than the timers": Scenario(
        4, delay_max_s=7.0, heals_s=100.0, ends_s=100.0, height_min=3
    ),
    "four, one dead, loss": Scenario(4, loss=0.1, dead=(3,)),
    "four, one crashes, loss": Scenario(4, loss=0.1, crashes=(2,)),
    "four, all crash": Scenario(4, loss=0.05, crashes=(0, 1, 2, 3)),
    "four, equivocator, loss": Scenario(4, loss=0.1, equivocators=(1,)),
    "four, equivocator, slow network": Scenario(4, loss=0.05, delay_max_s=3.0, equivocators=(1,)),
    "four, halves parted": Scenario(4, left_side=(0, 1)),
    "four, one parted, loss": Scenario(4, left_side=(2,), loss=0.05),
    "five, weighted, light equivocator": Scenario(5, (40, 15, 15, 15, 15), 0.1, equivocators=(2,)),
    "five, one holds two thirds": Scenario(5, (90, 5, 5, 5, 5), 0.1, crashes=(1, 2), dead=(3,)),
    "seven, one dead, equivocator, loss": Scenario(7, loss=0.1, equivocators=(1,), dead=(3,)),
    "seven, two equivocators, crash": Scenario(7, loss=0.1, equivocators=(1, 4), crashes=(2,)),
    "seven, parted": Scenario(7, left_side=(0, 1, 2)),
    "short epochs, one validator": Scenario(1, epoch_blocks=3, height_min=50),
    "short epochs, clean": Scenario(4, epoch_blocks=2, height_min=40),
    "short epochs, heavy loss": Scenario(4, loss=0.3, epoch_blocks=3),
    "short epochs, slow network": Scenario(4, loss=0.05, delay_max_s=3.0, epoch_blocks=3),
    "short epochs, all crash": Scenario(4, loss=0.05, crashes=(0, 1, 2, 3), epoch_blocks=4),
    "short epochs, equivocator": Scenario(4, loss=0.1, equivocators=(1,), epoch_blocks=3),
    "founder hands over, then dies": Scenario(
        5,
        (),
        0.05,
        dead=(0,),
        dead_from_s=14.0,
        epoch_blocks=5,
        sets=((0,), (0,), *((0, 1, 2, 3, 4),) * 50),
    ),
    "strangers take turns": Scenario(
        8, loss=0.1, epoch_blocks=4, sets=((0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7), (6, 7, 0, 1))
    ),
    "strangers take turns, crashes": Scenario(
        8, loss=0.1, crashes=(1, 4, 6), epoch_blocks=4, sets=((0, 1, 2, 3), (4, 5, 6, 7))
    ),
    "strangers take turns, parted": Scenario(
        8, left_side=(0, 4), epoch_blocks=5, sets=((0, 1, 2, 3), (4, 5, 6, 7))
    ),
    "three, equivocator holds a third": Scenario(3, loss=0.1, equivocators=(0,), height_min=1),
    "four, forger, loss": Scenario(4, loss=0.1, forgers=(2,)),
    "four, forger, slow network": Scenario(4, loss=0.05, delay_max_s=3.0, forgers=(1,)),
    "four, whisperer, loss": Scenario(4, loss=0.1, equivocators=(1,), whispers=True),
    "seven, whisperer, loss": Scenario(7, loss=0.1, equivocators=(3,), whispers=True, crashes=(5,)),
    "seven, two forgers, loss": Scenario(7, loss=0.1, forgers=(1, 4)),
    "four, equivocator, the others crash": Scenario(
        4, loss=0.05, equivocators=(1,), crashes=(0, 2, 3)
    ),
    "four, forger, real keys": Scenario(4, loss=0.1, forgers=(1,), ends_s=40.0, real_keys=True),
    "short epochs, forger": Scenario(4, loss=0.1, forgers=(1,), epoch_blocks=3),
    "short epochs, forger, slow network": Scenario(
        4, loss=0.2, delay_max_s=3.0, forgers=(2,), epoch_blocks=2
    ),
    "short epochs, two forgers, slow network": Scenario(
        7, loss=0.2, delay_max_s=3.0, forgers=(1, 4), epoch_blocks=2, height_min=4
    ),
    "short epochs, forger, real keys": Scenario(
        4, forgers=(3,), heals_s=10.0, ends_s=30.0, epoch_blocks=3, real_keys=True
    ),
    "short epochs, one forgets": Scenario(
        4, loss=0.1, crashes=(2,), forgetful=(2,), epoch_blocks=4
    ),
    "five, equivocator, one forgets": Scenario(
        5, loss=0.1, equivocators=(1,), crashes=(2,), forgetful=(2,), epoch_blocks=12
    ),
}
