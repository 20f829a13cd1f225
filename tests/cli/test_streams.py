"""Nothing that a shell does to the streams, the user or the folder of a command makes it raise."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from swarm.cli import run_node
from swarm.cli.errors import MESSAGE_CHARS_MAX, explain
from swarm.cli.main import run
from swarm.cli.options import GlobalOptions
from swarm.cli.run_node import NodeConsole, heeded
from swarm.cli.streams import QUEUE_BYTES_MAX, Lenient, Unhurried, is_terminal, is_wide
from swarm.cli.terminal import Terminal
from swarm.errors import UsageError
from swarm.events import EventKind, make_event

PATIENCE_S = 60.0
STATUS = {"--help": 0, "version": 0, "status": 3}
"""Light commands, with their exit codes in a home where no node runs."""
BYTES = os.fsdecode(b"/nowhere/\xff\xfe\x1b[2Jname")


def swarm(
    args: Sequence[str],
    home: Path | None,
    *,
    shell: str = "",
    before: Sequence[str] = (),
    **variables: str,
) -> tuple[int, str, str]:
    """Run a command line, with redirections of the shell; return code, stdout, stderr."""
    found = {key: value for key, value in os.environ.items() if key not in {"HOME", "SWARM_HOME"}}
    found |= {"SWARM_HOME": str(home), "HOME": str(home)} if home else {}
    command = [*before, sys.executable, "-m", "swarm.cli.main", *args]
    if shell:
        command = ["/bin/sh", "-c", f'"$@" {shell}', "sh", *command]
    done = subprocess.run(
        command, capture_output=True, env=found | variables, timeout=PATIENCE_S, check=False
    )
    out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    assert "Traceback" not in err, err
    assert "Exception" not in err, err
    return done.returncode, out, err


def is_one_sentence(err: str) -> bool:
    lines = err.splitlines()
    hints = [line for line in lines[1:] if line.startswith("  try: ")]
    return lines[0].startswith("error: ") and hints == lines[1:] and len(hints) <= 1


@pytest.mark.rule("C10")
@pytest.mark.parametrize("command", STATUS)
@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_a_message_that_cannot_be_written_is_no_failure(
    tmp_path: Path, command: str, shell: str
) -> None:
    code, out, _ = swarm([command], tmp_path, shell=shell)
    assert code == STATUS[command]
    assert bool(out) == (code == 0)


@pytest.mark.rule("C10")
@pytest.mark.parametrize("command", STATUS)
@pytest.mark.parametrize("shell", [">&-", ">/dev/full", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_result_that_cannot_be_written_is_one_sentence_and_a_failure(
    tmp_path: Path, command: str, shell: str
) -> None:
    code, out, err = swarm([command], tmp_path, shell=shell)
    assert code == (STATUS[command] or 1)
    assert out == ""
    if "2>" not in shell:
        assert is_one_sentence(err)
    assert not list(tmp_path.glob("trace-*"))


@pytest.mark.rule("C10")
def test_a_closed_stream_is_not_given_to_a_file_that_is_opened_later(tmp_path: Path) -> None:
    """A store that had descriptor 2 would have messages written into it."""
    program = (
        "from swarm.cli.streams import prepare_streams; prepare_streams(); import os;"
        f"n = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY); os._exit(n)"
    )
    closed = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", program]
    assert subprocess.run(closed, timeout=PATIENCE_S, check=False).returncode > 2


@pytest.mark.rule("C10")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_a_letter_is_given_its_number(tmp_path: Path, encoding: str) -> None:
    home = tmp_path / "ä€語"
    code, out, err = swarm(["status"], home, PYTHONIOENCODING=encoding)
    assert (code, out) == (3, "")
    assert is_one_sentence(err)
    code, out, _ = swarm(["--json", "id", "show"], home, PYTHONIOENCODING=encoding)
    assert code == 0
    assert json.loads(out)["home"] == str(home)


@pytest.mark.rule("C10", "C6")
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--home", BYTES, "status"], 3),
        (["--json", "--home", BYTES, "status"], 3),
        (["network", "show", BYTES], 2),
        (["init", BYTES], 2),
        (["ledger", "verify", BYTES], 2),
        ([BYTES], 2),
        (["status", BYTES], 2),
        (["--home", "/tmp/" + 5_000 * "a", "status"], 1),
        (["--home", "~nobody-of-this-name/x", "status"], 2),
    ],
)
def test_whatever_bytes_stand_in_a_path_there_is_one_printable_sentence(
    tmp_path: Path, args: list[str], expected: int
) -> None:
    code, out, err = swarm(args, tmp_path)
    assert (code, out) == (expected, ""), err
    assert "\x1b" not in err
    assert len(err) < 2 * MESSAGE_CHARS_MAX + 200
    assert json.loads(err)["exit_code"] == 3 if "--json" in args else is_one_sentence(err)


@pytest.mark.rule("C10")
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(
        ["unshare", "-U", "--map-user=54321", "true"], capture_output=True, check=False
    ).returncode
    != 0,
    reason="only where a user may have names of users of its own",
)
def test_a_user_without_a_name_and_a_home_is_asked_for_a_folder(tmp_path: Path) -> None:
    nameless = ["unshare", "-U", "--map-user=54321"]
    code, _, err = swarm(["status"], None, before=nameless)
    assert (code, is_one_sentence(err)) == (2, True)
    assert "--home DIR" in err
    assert swarm(["version"], None, before=nameless)[0] == 0
    assert swarm(["status"], tmp_path, before=nameless)[0] == 3


@pytest.mark.rule("C10")
def test_a_current_folder_that_is_gone_is_no_obstacle(tmp_path: Path) -> None:
    gone = ["/bin/sh", "-c", f'mkdir {tmp_path}/x && cd {tmp_path}/x && rmdir ../x && "$@"', "sh"]
    paths = {"PYTHONPATH": str(Path(__file__).parents[2])}
    assert swarm(["version"], tmp_path, before=gone, **paths)[0] == 0
    code, _, err = swarm(["--home", "here", "status"], tmp_path, before=gone, **paths)
    assert (code, is_one_sentence(err)) == (2, True)


class Unspeakable(Exception):
    """Error whose message cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no message")


@pytest.mark.rule("C10")
def test_an_error_that_cannot_say_what_it_is_still_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise Unspeakable

    monkeypatch.setattr("swarm.cli.main.app", fail)
    assert run(["version"]) == 1
    assert capsys.readouterr().err.startswith("error: Unspeakable\n")


@pytest.mark.rule("C10")
def test_what_the_system_refuses_has_its_remedy() -> None:
    assert explain(OSError(28, "No space left on device")).hint.startswith("df -h")
    assert explain(OSError(24, "Too many open files")).hint.startswith("ulimit -n")
    found = explain(OSError(2, "No such file", b"/a/\xff\n"))
    assert found.message == "No such file: /a/  "
    assert found.is_expected
    assert explain(MemoryError()).is_expected
    assert "closed" in explain(OSError(9, "Bad file descriptor")).message
    assert not explain(OSError("strange")).is_expected


class Gone:
    """Terminal that went away: every use of it is an error."""

    encoding = "ascii"

    def write(self, _: str) -> int:
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        raise OSError(5, "Input/output error")

    def isatty(self) -> bool:
        raise ValueError("I/O operation on closed file")

    def fileno(self) -> int:
        raise OSError(9, "Bad file descriptor")


@pytest.mark.rule("C11")
@pytest.mark.parametrize("options", [GlobalOptions(), GlobalOptions(json=True)])
def test_a_node_goes_on_when_its_terminal_is_gone(
    monkeypatch: pytest.MonkeyPatch, options: GlobalOptions
) -> None:
    screen = Terminal(options)
    screen.is_live = not options.json  # as if it had been one when the node began
    monkeypatch.setattr("sys.stdout", Gone())
    monkeypatch.setattr("sys.stderr", Gone())
    ticket = "ticket swarm1:3zfUyigpLX6Fsvjd"

    async def live() -> None:
        console = NodeConsole(screen)
        with console.opened():
            for text in ("a", ticket):
                console.on_event(make_event(1, EventKind.WARNING, text))
            console.on_state(None)

    trio.run(live)
    screen.say("a")
    screen.detail("a")
    screen.overwrite("a")
    assert not is_terminal(Lenient(Gone()))  # type: ignore[arg-type]
    assert not is_wide(None)
    with pytest.raises(UsageError, match="no terminal to ask on"):
        screen.confirms("really?", "swarm stop --yes")


@pytest.mark.rule("C11")
def test_who_reads_nothing_holds_up_no_writer_and_gets_whole_lines() -> None:
    """As a terminal that was stopped by Ctrl-S: what is said meanwhile is lost, and no line is cut."""
    receive, send = os.pipe()
    read = bytearray()
    with os.fdopen(receive, "rb") as source, os.fdopen(send, "w", encoding="utf-8") as full:
        stream = Unhurried(full)
        for number in range(40_000):
            print(f"line {number} " + "x" * 100, file=stream, flush=True)
        assert stream.dropped > 0
        reader = threading.Thread(target=lambda: read.extend(source.read()))  # until it is closed
        reader.start()
        stream.close()
        stream._thread.join()
        full.close()
        reader.join()
    lines = read.decode().split("\n")
    assert lines[:3] == [f"line {number} " + "x" * 100 for number in range(3)]
    assert len(read) > QUEUE_BYTES_MAX // 2
    assert lines[-1] == ""
    assert {len(line) - len("x" * 100) for line in lines[:-1]} <= set(range(7, 13))


@pytest.mark.rule("C11")
def test_a_process_whose_reader_stands_still_ends_all_the_same() -> None:
    program = (
        "from swarm.cli.streams import prepare_streams, unhurried\n"
        "prepare_streams()\n"
        "with unhurried():\n"
        "    for number in range(40_000): print('x' * 100, flush=True)\n"
    )
    receive, send = os.pipe()
    done = subprocess.run([sys.executable, "-c", program], stdout=send, timeout=60, check=False)
    os.close(send)
    os.close(receive)
    assert done.returncode == 0


@pytest.mark.rule("C11")
def test_a_hangup_is_heeded_unless_it_was_ignored_from_the_start() -> None:
    assert signal.SIGHUP in heeded()
    program = (
        "from swarm.cli.run_node import heeded; import signal; print(*(s.name for s in heeded()))"
    )
    for before, expected in (("", "SIGINT SIGTERM SIGHUP"), ("trap '' HUP;", "SIGINT SIGTERM")):
        shell = ["/bin/sh", "-c", f'{before} exec "$@"', "sh", sys.executable, "-c", program]
        done = subprocess.run(shell, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        assert done.stdout.strip() == expected


@pytest.mark.rule("C11")
def test_a_request_to_stop_is_no_failure_and_ctrl_c_is_a_stop() -> None:
    codes = [run_node._exit_code(number) for number in run_node.STOPPED_BY]
    assert codes == [130, 0, 0]
