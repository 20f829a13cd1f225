"""Let four validators vote as four processes over loopback, and then go on without the first of them.

    python -m benchmarks.ledger_voters HOME NUMBER

is one of them: it says where it is, is told where the others are, and says when each block became final. The
first is killed (SIGKILL) in the end.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import numpy as np
import trio

from benchmarks.common import ROOT, Outcome
from swarm.host.service import open_host
from swarm.testing.ledger import numbered_key
from swarm.types import PeerId
from tests.ledger.services import a_genesis, a_ledger

VALIDATORS = 4
INTERVAL_MS = 50
PATIENCE_S = 60.0
POLL_S = 0.02
SAMPLES_BLOCKS = 16
"""Blocks between two reports of how long blocks took."""


class Voter:
    """One process, and what it has said."""

    def __init__(self, home: Path, number: int) -> None:
        command = [sys.executable, "-m", "benchmarks.ledger_voters", str(home), str(number)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.address: dict[str, object] = {}
        self.final_at: dict[int, float] = {}
        """When a block became final there, by height; all clocks are one."""
        self.waits: list[float] = []
        self._reader = Thread(target=self._listen, daemon=True)
        self._reader.start()

    @property
    def height(self) -> int:
        """The height of its newest final block."""
        return max(self.final_at, default=0)

    def tell(self, others: Sequence[dict[str, object]]) -> None:
        """Say where the others are."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(others) + "\n")
        self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "peer" in said:
                self.address = said
            self.waits += said.get("waits", [])
            if "height" in said:
                self.final_at[said["height"]] = said["at"]

    def __enter__(self) -> "Voter":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()


def vote_apart(home: Path, blocks: int) -> Outcome:
    """Return blocks a second and finality of four processes, and how long the loss of one stops them."""
    with ExitStack() as stack:
        voters = [
            stack.enter_context(Voter(home / str(number), number)) for number in range(VALIDATORS)
        ]
        _until(lambda: all(voter.address for voter in voters))
        for voter in voters:
            voter.tell([other.address for other in voters if other is not voter])
        _until(lambda: min(voter.height for voter in voters) >= 10)
        first, began = voters[0].height, time.monotonic()
        _until(lambda: min(voter.height for voter in voters) >= first + blocks)
        seconds = time.monotonic() - began
        waits = [wait for voter in voters for wait in voter.waits]
        voters[0].process.send_signal(signal.SIGKILL)
        lost_at, others = time.monotonic(), voters[1:]
        height = max(voter.height for voter in others)
        _until(lambda: min(voter.height for voter in others) > height + 1)
        stopped = max(voter.final_at[height + 2] for voter in others) - lost_at
    detail = {
        "processes_blocks_per_s": round(blocks / seconds, 1),
        "processes_finality_p50_s": round(float(np.quantile(waits, 0.5)), 3),
        "processes_finality_p95_s": round(float(np.quantile(waits, 0.95)), 3),
        "processes_finality_samples": len(waits),
        "processes_first_killed_second_block_final_s": round(stopped, 2),
    }
    return Outcome(detail=dict[str, object](detail))


def _until(is_true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not is_true():
        if time.monotonic() > ends:
            raise TimeoutError("the validators did not come so far")
        time.sleep(POLL_S)


async def serve(home: Path, number: int) -> None:
    """Vote, and say when each block became final, until killed."""
    home.mkdir(parents=True)  # noqa: ASYNC240  nobody waits yet
    genesis = a_genesis(VALIDATORS, INTERVAL_MS, epoch_blocks=100_000)
    secret, chain16 = numbered_key(number), bytes(genesis.chain[:16])
    async with open_host(secret, listen=["127.0.0.1:0"], chain16=chain16) as host:
        _say(peer=secret.peer.hex(), addresses=list(host.addresses()))
        others = json.loads(await trio.to_thread.run_sync(sys.stdin.readline))
        for other in others:
            host.learn(PeerId(bytes.fromhex(other["peer"])), other["addresses"])
        async with a_ledger(home, genesis, number, host) as ledger:
            for other in others:
                peer = PeerId(bytes.fromhex(other["peer"]))
                await host.connect(peer, other["addresses"])
            height = 0
            while True:
                height = (await ledger.wait_height(height + 1)).height
                waits = ledger.finality_samples if height % SAMPLES_BLOCKS == 0 else ()
                _say(height=height, at=time.monotonic(), waits=list(waits[-SAMPLES_BLOCKS:]))


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    trio.run(serve, Path(sys.argv[1]), int(sys.argv[2]))
