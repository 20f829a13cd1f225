"""Tree of the errors raised on purpose; the name of each says whose fault it is.

Core: pure data.

    SwarmError
      PeerFault           the other side broke the protocol: drop it, lower its score, go on
        BadSignature BadEncoding BrokenPromise
        OutOfTurn
          OtherBits       it signed what its weights and inputs do not give
      Unreachable         the network failed: retry within limits, or go on without the peer
        DeviceLost        a device of this machine no longer answers
      InvalidStatement    a statement the ledger must refuse, with a Reason
      UsageError          our caller, or the person at the keyboard, broke the contract
        Pruned            an old block that this node does not keep
        BadTicket
          ExpiredTicket   it was good once: another one gets in
      BadConfig           a run, a file or a setting cannot be used as it stands
      BadIdentity         the key of this node is unreadable, unsafe or in use
      VerificationFailed  a claim does not hold
      Corrupt             data on our own disk is damaged: stop this node
      DiskFull            no room to write: stop signing, keep reading, go on when there is room
"""

from enum import StrEnum


class SwarmError(Exception):
    """Base of every error raised on purpose.

    ``hint`` is one command or action that mends the cause, shown under the message.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return the errors in a group of groups, or the one error, in order."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves_of(inner)]
    return [error]


def cause_of(error: BaseException) -> BaseException:
    """Return the error that speaks for a group: the only one in it, or the gravest of those raised on purpose.

    A group that holds several errors and among them one that nobody raised on purpose stays as it is.
    """
    leaves = leaves_of(error)
    if len(leaves) == 1:
        return leaves[0]
    ours = [leaf for leaf in leaves if isinstance(leaf, SwarmError)]
    return max(ours, key=lambda leaf: leaf.exit_code) if len(ours) == len(leaves) else error


class PeerFault(SwarmError):
    """Violation of the protocol by the other side."""


class BadSignature(PeerFault):
    """Signature or proof that does not verify."""


class BadEncoding(PeerFault):
    """Bytes that are not the one encoding of a value within its bounds."""


class BrokenPromise(PeerFault):
    """Data that does not match what was announced, such as its hash, size or proof."""


class OutOfTurn(PeerFault):
    """Message that no honest peer sends at this point."""


class OtherBits(OutOfTurn):
    """Signed output of a seat that is not what its weights and inputs give."""


class Unreachable(SwarmError):
    """Peer that could not be reached or fell silent, or link that broke."""

    exit_code = 3


class DeviceLost(Unreachable):
    """Device of this machine, or its worker process, that no longer answers; what it held is lost."""


class Reason(StrEnum):
    """Reasons for which the ledger refuses a statement."""

    BAD_SIGNATURE = "bad signature"
    BAD_FIELD = "a field is out of bounds"
    DUPLICATE = "already on the ledger"
    EXPIRED = "expired"
    NONCE = "nonce out of window"
    FEE = "fee too low"
    BALANCE = "balance too low"
    UNKNOWN_RUN = "no such run"
    UNKNOWN_SEAT = "no such seat"
    UNKNOWN_SEGMENT = "no such segment"
    WRONG_PEER = "not this peer's to say"
    WRONG_PHASE = "not in this phase"
    WRONG_ROUND = "not for this round"
    WRONG_START = "does not start from a committed state"
    BAD_PROOF = "proof does not hold"
    FULL = "no room"
    STAKE = "not enough stake"
    PRICE = "the run does not pay that"
    BARRED = "barred from this run"


class InvalidStatement(SwarmError):
    """Statement that the ledger must refuse; ``reason`` comes from a closed list."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason


class UsageError(SwarmError):
    """Broken contract, by our caller or the person at the keyboard."""

    exit_code = 2


class Pruned(UsageError):
    """Block that was here once, or never, because this node keeps only newer ones."""


class BadTicket(UsageError):
    """Ticket that is mistyped, expired or made by another version."""


class ExpiredTicket(BadTicket):
    """An invitation whose time is over; the program ends as for a peer that is gone."""

    exit_code = 3


class BadConfig(SwarmError):
    """Run, file or setting that cannot be used as it stands."""

    exit_code = 4


class BadIdentity(SwarmError):
    """Key of this node that is unreadable, unsafe or in use."""

    exit_code = 5


class VerificationFailed(SwarmError):
    """Claim that does not hold."""

    exit_code = 6


class Corrupt(SwarmError):
    """Damaged data on our own disk; the node stops rather than build on it."""


class DiskFull(SwarmError):
    """Full disk: nothing was written, and nothing may be signed until there is room."""
