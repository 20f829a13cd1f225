"""Global flags mean the same wherever they stand, and nothing else is touched."""

import pytest

from swarm.cli.options import GlobalOptions, split_globals
from swarm.errors import UsageError


@pytest.mark.parametrize(
    "args",
    [
        ["--json", "map", "--home", "/x"],
        ["map", "--home=/x", "--json"],
        ["--home", "/x", "map", "--json"],
    ],
)
def test_flags_are_found_before_and_after_the_command(args: list[str]) -> None:
    """Order makes no difference."""
    assert split_globals(args) == (GlobalOptions(json=True, home="/x"), ["map"])


def test_what_belongs_to_the_command_is_left_in_order() -> None:
    """Words that are no global flags pass through."""
    options, rest = split_globals(["generate", "-p", "def ", "-q", "--count", "3"])
    assert options == GlobalOptions(quiet=True)
    assert rest == ["generate", "-p", "def ", "--count", "3"]


def test_nothing_is_taken_after_two_dashes() -> None:
    """A text that looks like a flag can still be given."""
    assert split_globals(["init", "--", "--json"]) == (GlobalOptions(), ["init", "--", "--json"])


@pytest.mark.parametrize("args", [["--home"], ["--home", "--json"], ["map", "--home="]])
def test_home_without_a_folder_is_refused(args: list[str]) -> None:
    """The next flag is not taken for a folder."""
    with pytest.raises(UsageError, match="--home needs a folder"):
        split_globals(args)
