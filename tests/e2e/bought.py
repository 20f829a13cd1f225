"""A verifier that accuses everybody falsely: the ordinary program with two functions replaced.

The accuser is consistent: its answer is that of an account in which a step ends in another state, and it plays
its side of the dispute by that account.
"""

from collections.abc import Mapping

from torch import Tensor

from swarm.cli.main import main
from swarm.primitives.codec import replace
from swarm.primitives.commitments import WindowResult
from swarm.training.data.dataset import TokenSource
from swarm.types import Digest
from swarm.verify.program.account import Account, Kind, account_of, result_of
from swarm.verify.program.players import Challenger
from swarm.verify.replay_process import FileReplays, read_window
from swarm.verify.replay_process import Log as LogFile


def false(account: Account) -> Account:
    """Return an account whose first step ends elsewhere."""
    first = account.kinds.index(Kind.STEP)
    states = (*account.states[:first], *[b"\x0b" * 32] * (len(account.states) - first))
    return replace(account, states=states)


def accuse_everybody() -> None:
    """Make every replay of this process give something false."""

    def answer(
        self: FileReplays,
        log: LogFile,
        tokens: TokenSource,
        anchors: Mapping[Digest, Tensor],
        base_W: Tensor | None = None,
    ) -> WindowResult:
        del self
        data = read_window(log)
        assert data is not None, "honest peers keep logs"
        return result_of(false(account_of(log.plan, data, tokens, anchors, base_W)))

    made = Challenger.__init__

    def make(self: Challenger, *args: object, **kwargs: object) -> None:
        made(self, *args, **kwargs)  # type: ignore[arg-type]
        self.account = false(self.account)

    FileReplays.answer = answer  # type: ignore[method-assign]
    Challenger.__init__ = make  # type: ignore[method-assign]


if __name__ == "__main__":
    accuse_everybody()
    main()
