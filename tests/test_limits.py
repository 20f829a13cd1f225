"""What a process may use is the least of what its machine, its groups and its own limits say."""

import pytest

from swarm.limits import (
    Bound,
    Group,
    Memory,
    Usage,
    cores_of,
    gigabytes,
    group_folders,
    meminfo_bytes,
    memory_of,
)

GIB = 1 << 30
MIB = 1 << 20
USAGE = Usage(resident=100 * MIB, addresses=3 * GIB, data=1 * GIB)
V1 = """31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.rule("N25")
def test_every_group_up_to_the_root_counts_in_both_versions() -> None:
    groups = "9:name=systemd:/\n4:memory:/user/one\n1:cpu,cpuacct:/\n0::/\n"
    assert group_folders(groups, V1, "memory") == [
        "/sys/fs/cgroup/memory/user/one",
        "/sys/fs/cgroup/memory/user",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/unified",
    ]
    assert group_folders(groups, V1, "cpu")[0] == "/sys/fs/cgroup/cpu,cpuacct"
    assert group_folders("0::/user.slice/a:b.scope\n", V2, "memory") == [
        "/sys/fs/cgroup/user.slice/a:b.scope",
        "/sys/fs/cgroup/user.slice",
        "/sys/fs/cgroup",
    ]


@pytest.mark.rule("N25")
@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/docker/12ab", "/docker/12ab"),  # names of the host, and the container's own part mounted
        ("/", "/"),  # names of its own
        ("/../other", "/"),  # moved out of the names that it sees
        ("/docker/12ab", "/docker/34cd"),
        ("/docker/12abc", "/docker/12ab"),
    ],
)
def test_a_container_sees_its_own_group_at_the_mount(path: str, root: str) -> None:
    mounts = f"35 31 0:32 {root} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    assert group_folders(f"4:memory:{path}\n", mounts, "memory") == ["/sys/fs/cgroup/memory"]


@pytest.mark.rule("N25")
def test_a_mount_with_a_space_in_its_name_is_found() -> None:
    mounts = "35 31 0:32 / /my\\040groups rw - cgroup2 cgroup2 rw\n"
    assert group_folders("0::/a\n", mounts, "memory") == ["/my groups/a", "/my groups"]


@pytest.mark.rule("N25")
@pytest.mark.parametrize(
    ("groups", "mounts"),
    [("", ""), ("x", V2), ("::", V2), ("0::", V2), ("4:memory:/a", "\n - \n1 2 - cgroup2\n")],
)
def test_texts_of_another_form_name_no_group(groups: str, mounts: str) -> None:
    assert group_folders(groups, mounts, "memory") == []


@pytest.mark.rule("N25")
def test_the_least_of_machine_groups_and_limits_counts() -> None:
    inner = Group("/c/in", limit="max\n", high="max\n", used="12\n")
    outer = Group("/c", limit=f"{GIB}\n", used=f"{100 * MIB}\n")
    first = Group("/m", limit="9223372036854771712\n", used="1\n")
    assert memory_of(8 * GIB, [inner, first], USAGE) == Memory(8 * GIB, Bound.MACHINE)
    assert memory_of(8 * GIB, [inner, outer, first], USAGE) == Memory(GIB, Bound.GROUP, "/c")
    assert memory_of(GIB // 2, [outer], USAGE) == Memory(GIB // 2, Bound.MACHINE)
    soft = Group("/c", limit="max", high=str(GIB // 4))
    assert memory_of(8 * GIB, [soft], USAGE) == Memory(GIB // 4, Bound.GROUP, "/c")


@pytest.mark.rule("N25")
def test_what_others_hold_in_a_group_is_not_ours_and_a_cache_is() -> None:
    stat = f"anon 5\ninactive_file {300 * MIB}\nactive_file {100 * MIB}\n"
    group = Group("/c", limit=str(GIB), used=str(700 * MIB), stat=stat)
    assert memory_of(8 * GIB, [group], USAGE).num_bytes == GIB - 200 * MIB
    stat = f"inactive_file 1\ntotal_inactive_file {600 * MIB}\n"  # version 1: with all below it
    group = Group("/c", limit=str(GIB), used=str(700 * MIB), stat=stat)
    assert memory_of(8 * GIB, [group], USAGE).num_bytes == GIB
    full = Group("/c", limit=str(GIB), used=str(2 * GIB))
    assert memory_of(8 * GIB, [full], USAGE).num_bytes == 0


@pytest.mark.rule("N25")
def test_limits_of_the_process_leave_out_what_is_mapped_and_not_there() -> None:
    few = Usage(resident=GIB // 4, addresses=3 * GIB, data=GIB, addresses_max=4 * GIB)
    found = memory_of(64 * GIB, [], few)
    assert found == Memory(4 * GIB - 3 * GIB + GIB // 4, Bound.ADDRESSES)
    assert found.is_hard
    assert found.remedy == "ulimit -v unlimited"
    assert found.text == "the limit of its address space leaves it 1.3 GB"
    few = Usage(resident=0, addresses=0, data=GIB, data_max=GIB // 2)
    assert memory_of(64 * GIB, [], few) == Memory(0, Bound.DATA)


@pytest.mark.rule("N25")
def test_texts_that_are_no_numbers_are_no_limits() -> None:
    for text in ("", "max", "-1", "x", "9" * 40, "٣", "1.5"):
        group = Group("/c", limit=text, used=text, stat=text, cores=text, quota=text, period=text)
        assert memory_of(GIB, [group], USAGE).bound is Bound.MACHINE
        assert cores_of(4, [group]) == 4
    assert memory_of(GIB, [Group("/c", limit="0")], USAGE).num_bytes == 0


@pytest.mark.rule("N25")
def test_cores_are_those_of_the_quota() -> None:
    assert cores_of(8, []) == 8
    assert cores_of(8, [Group("/c", cores="max 100000\n")]) == 8
    assert cores_of(8, [Group("/c", cores="150000 100000\n"), Group("/", cores="max 1")]) == 1.5
    assert cores_of(8, [Group("/c", quota="-1\n", period="100000\n")]) == 8
    assert cores_of(8, [Group("/c", quota="50000\n", period="100000\n")]) == 0.5
    assert cores_of(1, [Group("/c", cores="400000 100000")]) == 1


def test_a_line_of_meminfo_is_in_bytes() -> None:
    text = "MemTotal:       24684092 kB\nMemFree: 1 kB\nHugePages_Total:       0\nBroken:\n"
    assert meminfo_bytes(text, "MemTotal") == 24684092 * 1024
    assert meminfo_bytes(text, "Broken") is None
    assert meminfo_bytes(text, "MemAvailable") is None
    assert gigabytes(24 * 10**9) == "24 GB"
    assert gigabytes(15 * 10**8) == "1.5 GB"
