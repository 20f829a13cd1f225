"""A small network of real ``swarm`` processes on loopback: start, watch, inspect, stop.

Everything is waited for by its signs, in events.jsonl or in the node's own API, never by the clock. What is
started is always stopped, whole process groups at a time.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from swarm.cli.client import fetch_state, find_node
from swarm.config.load import genesis_of, parse_run_file
from swarm.errors import SwarmError
from swarm.host.identity import load_identity
from swarm.primitives.codec import encode, fields_of
from swarm.primitives.crypto import peer_name

SWARM = (sys.executable, "-m", "swarm.cli.main")
WAIT_S = 90.0
"""Far beyond what anything here takes, even on a machine that does three other things."""
POLL_S = 0.1
STOP_S = 5.0
TAIL_LINES = 25

RUN_FILE = """
[run]
name = "tiny"
rounds = {rounds}
numerics = "{numerics}"
[model]
hidden_size = 32
num_layers = 2
num_heads = 2
num_kv_heads = 2
intermediate_size = 64
seq_len = 32
[training]
num_stages = 2
replicas_max = 3
microbatch_size = 4
microbatches_per_step = 1
inner_steps_max = {steps}
round_blocks = {round_blocks}
checkpoint_rounds = 2
[optimizer]
warmup_steps = 10
[outer]
fragments = 2
trades_per_round = 1
pull_only_rounds = 1
[data]
source = ["corpus"]
max_bytes = 1_000_000
heldout_every = 3
[deadlines]
step_s = 2.0
hop_s = 1.0
exchange_s = 2.0
[checks]
probability = {probability}
window_steps = {window_steps}
way = "{way}"
{forced}
challenge_window_blocks = 120
[ledger]
block_interval_s = 0.5
epoch_blocks = {epoch_blocks}
unbonding_epochs = {unbonding_epochs}
"""
UNBONDING_BLOCKS = 180
"""Blocks until a withdrawn stake is free: more than the challenge window."""

NODE_FILE = """
listen = ["127.0.0.1:0"]
api_port = 0
solve = {solve}
verify = {verify}
stake = {stake}
validate = {validate}
"""
FUNDS = 1_000_000_000
"""Balance of every home that is set up: more than all fees and stakes."""
STAKE = 1_000_000

T = TypeVar("T")
State = dict[str, Any]


@dataclass(frozen=True)
class HomeSetup:
    """What a node whose home is set up does: it trains, and puts up a stake of its own money."""

    solve: bool = True
    stake: int = STAKE
    validate: bool = False
    verify: bool = True


class Node:
    """One running node and its home."""

    def __init__(
        self,
        net: "Localnet",
        name: str,
        args: Sequence[str],
        program: Sequence[str] = SWARM,
        listen: Sequence[str] = ("127.0.0.1:0",),
    ) -> None:
        self.home = net.folder / name
        self.log = net.folder / f"{name}.log"
        self._net = net
        self._program = program
        self._listen = listen
        self.process = self._begin(args)

    def _begin(self, args: Sequence[str]) -> "subprocess.Popen[bytes]":
        listen = [part for address in self._listen for part in ("--listen", address)]
        options = ("--home", str(self.home), *listen, "--api-port", "0")
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self._program, *args, *options, "--plain", "--verbose"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )

    def resume(self) -> None:
        """Start the home again, without a ticket."""
        self.process = self._begin(["join"])

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process.poll() is None

    def state(self) -> State | None:
        """The state document of the node; None as long as it does not answer."""
        address = find_node(self.home)
        if address is None or address.pid != self.process.pid:
            return None
        try:
            return cast("State", fields_of(fetch_state(address, 10.0)))
        except SwarmError:
            return None

    def wait(
        self,
        what: str,
        check: Callable[[State], T | Literal[False] | None],
        timeout_s: float = WAIT_S,
    ) -> T:
        """What ``check`` finds in the state document, as soon as that is neither None nor false."""

        def poll() -> T | Literal[False] | None:
            state = self.state()
            return None if state is None else check(state)

        return self._net.wait(f"{self.home.name}: {what}", poll, timeout_s, self)

    def events(self, kind: str = "") -> list[State]:
        """The lines of the event log, over all starts of this home."""
        try:
            lines = (self.home / "events.jsonl").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return [event for event in events if not kind or event["kind"] == kind]

    def wait_event(self, kind: str, excerpt: str = "", *, after: int = 0) -> State:
        """The first event of a kind whose text contains ``excerpt``, behind the first ``after`` ones of the
        log.
        """

        def poll() -> State | None:
            found = [e for e in self.events()[after:] if e["kind"] == kind and excerpt in e["text"]]
            return found[0] if found else None

        return self._net.wait(f"{self.home.name}: {kind} {excerpt}", poll, WAIT_S, self)

    def ticket(self) -> str:
        """The invitation of this launch."""
        path = self.home / "ticket.txt"
        return self._net.wait(
            f"{self.home.name}: a ticket",
            lambda: path.read_text().strip() if path.exists() else None,
            WAIT_S,
            self,
        )

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; give the exit code and how long it took, and end what did not end."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self.process.wait()
        return code, time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL for the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def has_children(self) -> bool:
        """Whether anything of its process group is left."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def tail(self) -> str:
        """The end of what it printed, and where its home is."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]
        ended = "running" if self.is_running else f"exit code {self.process.returncode}"
        return "\n".join([f"--- {self.home} ({ended})", *lines])


class Localnet:
    """The nodes of one test module, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        corpus = folder / "corpus"
        corpus.mkdir(parents=True)
        for number in range(4):
            lines = [f"line {i} of text {number} says {i * 7919 % 1009}" for i in range(600)]
            (corpus / f"text-{number}.txt").write_text("\n".join(lines))

    def run_file(
        self,
        *,
        rounds: int = 60_000,
        is_exact: bool = False,
        probability: float = 1.0,
        round_blocks: int = 0,
        epoch_blocks: int = 60,
        window_steps: int = 0,
        way: str = "replay",
        forced: float = 0.0,
    ) -> Path:
        """A run that a lone slow core trains in fractions of a second per round.

        ``round_blocks``: blocks of half a second per round; 0 stands for as few as the steps need.
        ``window_steps``: steps that a verifier replays; 0 for fewer than a segment has, where that can be.
        ``way``: whether checks replay windows, or look at elements; ``forced``: part of those in which a
        solver states something false on purpose.
        """
        path = self.folder / f"run-{rounds}{'-exact' * is_exact}{round_blocks or ''}.toml"
        numerics = "seq-f32/1" if is_exact else "native"
        steps, least, usual = (6, 6, 2) if is_exact else (5, 4, 5)
        text = RUN_FILE.format(
            rounds=rounds,
            numerics=numerics,
            steps=steps,
            round_blocks=round_blocks or least,
            probability=probability,
            window_steps=window_steps or usual,
            way=way,
            forced=f"forced = {forced}" if way == "spots" else "",
            epoch_blocks=epoch_blocks,
            unbonding_epochs=UNBONDING_BLOCKS // epoch_blocks,
        )
        path.write_text(text)
        return path

    def set_up(
        self,
        run_file: Path,
        validator: str,
        founder: HomeSetup = HomeSetup(stake=0),
        **others: "HomeSetup",
    ) -> dict[str, str]:
        """Homes with keys, money and a node file, and the genesis they share; their names by home.

        ``founder`` is what the validator does.
        """
        keys = {name: load_identity(self.folder / name).peer for name in (validator, *others)}
        genesis = genesis_of(
            parse_run_file(run_file.read_text(), run_file.name),
            validators={keys[validator]: STAKE},
            accounts=dict.fromkeys(keys.values(), FUNDS),
            seed=bytes(32),
        )
        for name in keys:
            setup = others.get(name, founder if name == validator else HomeSetup(stake=0))
            text = NODE_FILE.format(
                stake=setup.stake,
                solve=str(setup.solve).lower(),
                verify=str(setup.verify).lower(),
                validate=str(setup.validate or name == validator).lower(),
            )
            (self.folder / name / "node.toml").write_text(text)
            (self.folder / name / "genesis.bin").write_bytes(encode(genesis))
        return {name: peer_name(key) for name, key in keys.items()}

    def launch(self, name: str, *, rounds: int = 60_000) -> Node:
        """Start a run."""
        return self.start(name, "launch", str(self.run_file(rounds=rounds)))

    def join(self, name: str, *args: str) -> Node:
        """Start a node that takes part."""
        return self.start(name, "join", *args)

    def start(
        self,
        name: str,
        *args: str,
        program: Sequence[str] = SWARM,
        listen: Sequence[str] = ("127.0.0.1:0",),
    ) -> Node:
        """Start any node, on loopback if nothing else is said; ``program`` may be one that cheats."""
        node = Node(self, name, args, program, listen)
        self.nodes.append(node)
        return node

    def swarm(self, *args: str, home: Path) -> "subprocess.CompletedProcess[str]":
        """Run another command to its end, as in another terminal."""
        return subprocess.run(
            [*SWARM, *args, "--home", str(home)],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=WAIT_S,
            check=False,
        )

    def read(self, *args: str, home: Path) -> Any:  # noqa: ANN401  any JSON
        """What a read command says with --json."""
        done = self.swarm(*args, "--json", home=home)
        assert done.returncode == 0, f"swarm {' '.join(args)}: {done.stderr}"
        return json.loads(done.stdout)

    def export(self, node: Node, name: str, *args: str) -> "subprocess.CompletedProcess[str]":
        """``swarm export`` into a folder of the network."""
        return self.swarm("export", str(self.folder / name), "--yes", *args, home=node.home)

    def wait(
        self,
        what: str,
        poll: Callable[[], T | Literal[False] | None],
        timeout_s: float = WAIT_S,
        node: Node | None = None,
    ) -> T:
        """What ``poll`` finds, as soon as that is neither None nor false; fails at once if ``node`` dies."""
        ends = time.monotonic() + timeout_s
        while True:
            found = poll()
            if found is not None and found is not False:
                return found
            if node is not None and not node.is_running:
                raise AssertionError(f"waiting for {what}: the node ended\n{self.tails()}")
            if time.monotonic() > ends:
                raise AssertionError(f"waited {timeout_s:.0f} s for {what}\n{self.tails()}")
            time.sleep(POLL_S)

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(node.tail() for node in self.nodes)

    def close(self) -> None:
        """Leave nothing running."""
        for node in self.nodes:
            node.kill()


def environment() -> dict[str, str]:
    """One thread each, and no process outlives that of the test."""
    ours = {"OMP_NUM_THREADS": "1", "SWARM_PARENT_PID": str(os.getpid()), "NO_COLOR": "1"}
    return {**os.environ, **ours}


def seats_of(state: State) -> list[State]:
    """The seats that the node of this document has on the ledger."""
    me = state["node"]["peer"]
    return [seat for seat in state["seats"] if seat["peer"] == me]


def last_commit(state: State) -> int:
    """The newest round of which the ledger has a segment of this node; -1 for none."""
    return max((seat["last_commit_round"] for seat in seats_of(state)), default=-1)


def peer_of(state: State, name: str) -> State:
    """A peer of the document by its name; empty if it is not there."""
    return next((peer for peer in state["peers"] if peer["name"] == name), {})
