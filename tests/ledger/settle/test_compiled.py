"""The bytecode in the repository is what the compiler makes of the source beside it."""

import json
import os
import shutil
import subprocess
from importlib.resources import files

import pytest

FOLDER = files("swarm.ledger.settle")


def test_the_committed_bytecode_is_that_of_the_committed_source() -> None:
    vyper = shutil.which(os.environ.get("VYPER", "vyper"))
    if vyper is None:
        pytest.skip("needs vyper 0.4.3, installed apart: scripts/compile_contract says how")
    document = json.loads(FOLDER.joinpath("Settlement.json").read_text("utf-8"))
    source = str(FOLDER.joinpath("Settlement.vy"))
    command = [vyper, "-f", "abi,bytecode,bytecode_runtime", source]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert json.loads(made[0]) == document["abi"]
    assert made[1:3] == [document["bytecode"], document["runtime"]]
