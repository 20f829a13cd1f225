"""The units of a service are a function of its settings: it always comes back, within caps, in its hours."""

import pytest

from swarm.cli.service_unit import (
    RESTART_S,
    Hours,
    Service,
    parse_cpu,
    parse_hours,
    parse_memory,
    quoted,
    unit_name,
    units_of,
)
from swarm.errors import UsageError

PLAIN = Service(name="swarm", program=("/opt/bin/swarm",), home="/home/ada/.swarm")
NIGHT = Hours(22 * 60, 6 * 60 + 30)


def settings(text: str) -> dict[str, str]:
    """Return the settings of a unit, of which none may come twice."""
    rows = [line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] != "#"]
    assert len({row[0] for row in rows}) == len(rows)
    return dict(rows)


@pytest.mark.rule("C15")
def test_whatever_ends_a_node_it_is_started_again_and_nothing_counts_how_often() -> None:
    found = settings(units_of(PLAIN)["swarm.service"])
    assert found["ExecStart"] == "/opt/bin/swarm --home /home/ada/.swarm --plain join"
    assert found["Restart"] == "always"
    assert found["StartLimitIntervalSec"] == "0"
    assert int(found["RestartSec"]) == RESTART_S <= 10
    assert found["WantedBy"] == "default.target"
    assert not {"CPUQuota", "MemoryMax"} & set(found)


def test_caps_are_those_that_were_asked_for() -> None:
    capped = Service(
        name="swarm", program=("s",), home="/h", cpu=1.5, memory_mb=4096, upload_mbit=20
    )
    found = settings(units_of(capped)["swarm.service"])
    assert (found["CPUQuota"], found["MemoryMax"]) == ("150%", "4096M")
    assert found["ExecStart"].endswith(" join --upload 20")


def test_in_hours_a_timer_decides_and_the_node_does_not_start_by_itself() -> None:
    units = units_of(Service(name="swarm", program=("/s",), home="/h", hours=NIGHT))
    assert sorted(units) == ["swarm-hours.service", "swarm-hours.timer", "swarm.service"]
    assert "WantedBy" not in units["swarm.service"]
    assert units["swarm-hours.timer"].count("OnCalendar=") == 2
    assert "OnCalendar=*-*-* 22:00:00\n" in units["swarm-hours.timer"]
    assert "OnStartupSec=" in units["swarm-hours.timer"], "a machine that is switched on at night"
    start = settings(units["swarm-hours.service"])["ExecStart"]
    assert start == "/s --home /h service keep-hours 22:00-06:30"


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        (NIGHT, (22 * 60, 23 * 60 + 59, 0, 6 * 60 + 29), (6 * 60 + 30, 12 * 60, 22 * 60 - 1)),
        (Hours(9 * 60, 17 * 60), (9 * 60, 16 * 60 + 59), (8 * 60 + 59, 17 * 60, 0)),
    ],
)
def test_hours_begin_with_their_first_minute_and_end_before_their_last(
    hours: Hours, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    assert all(hours.holds(minute) for minute in inside)
    assert not any(hours.holds(minute) for minute in outside)
    assert parse_hours(str(hours)) == hours


@pytest.mark.parametrize("text", ["", "22-6", "22:00", "24:00-06:00", "08:00-08:00", "25:00-26:00"])
def test_what_is_no_part_of_a_day_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no part of a day"):
        parse_hours(text)


def test_sizes_and_cores_are_checked() -> None:
    assert parse_memory("4G") == 4096
    assert parse_memory(" 900m ") == 900
    assert parse_cpu(0.5) == 0.5
    for text in ("", "4", "4GB", "-1G", "1.5G", "100M"):
        with pytest.raises(UsageError):
            parse_memory(text)
    for cores in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(UsageError):
            parse_cpu(cores)


def test_a_path_with_what_systemd_expands_stays_as_it_is() -> None:
    assert quoted(["/a/b", "my home"]) == '/a/b "my home"'
    assert quoted(["50%", '$HOME"\\']) == '"50%%" "$$HOME\\"\\\\"'
    text = units_of(Service(name="s", program=("/s",), home="/a%b\nExecStart=/evil"))["s.service"]
    assert settings(text)["ExecStart"] == '/s --home "/a%%b\\nExecStart=/evil" --plain join'


def test_each_home_has_a_service_of_its_own() -> None:
    names = {unit_name(home, "/home/ada/.swarm") for home in ("/home/ada/.swarm", "/a", "/b")}
    assert len(names) == 3
    assert "swarm" in names
