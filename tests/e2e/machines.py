"""Machines that are network namespaces, with cables between them and routers that translate addresses.

That takes the rights of root, iproute2, and for routers iptables; without them a test is skipped with the
reason. (``unittest``'s exception: benchmarks make machines, too, where there is no pytest.)
"""

import os
import shutil
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from unittest import SkipTest

from tests.e2e.localnet import SWARM

ROUTER_RULES = (
    "-A INPUT -i wan -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "-A INPUT -i wan -j DROP",
    "-A FORWARD -i wan -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "-A FORWARD -i wan -j DROP",
)
"""Rules of a router at home: nobody gets in who was not asked."""

NEIGHBOUR_RULES = ("-A INPUT -p ipv6-icmp -j ACCEPT", "-A FORWARD -p ipv6-icmp -j ACCEPT")
"""Rules without which there is no IPv6: machines on one cable find each other by ICMP."""


def ip(*words: str) -> None:
    """Run the command of iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def inside(machine: str, *words: str) -> None:
    """Run a command on a machine."""
    ip("netns", "exec", machine, *words)


def on(machine: str) -> Sequence[str]:
    """The program on a machine."""
    return ["ip", "netns", "exec", machine, *SWARM]


@contextmanager
def machines(*letters: str) -> Generator[tuple[str, ...]]:
    """Machines without a cable; their names. They are gone afterwards."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise SkipTest("it takes root and iproute2 to make several machines of one")
    names, made = [f"swarm-{os.getpid()}-{letter}" for letter in letters], list[str]()
    try:
        for name in names:
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                raise SkipTest(
                    f"no namespace can be made here: {error.stderr.decode()[:200]}"
                ) from None
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        yield tuple(names)
    finally:
        for name in made:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


def cable(one: str, other: str, *ends: str) -> None:
    """Lay a cable between two machines, with the names of its ends."""
    near, far = ends
    ip("link", "add", near, "netns", one, "type", "veth", "peer", "name", far, "netns", other)
    ip("-n", one, "link", "set", near, "up")
    ip("-n", other, "link", "set", far, "up")


def make_firewall(machine: str) -> None:
    """Let a machine pass on IPv6 from its cable ``lan``, and from its cable ``wan`` to it answers alone.

    Addresses stay as they are: all are public, and nobody gets in who was not asked.
    """
    if shutil.which("ip6tables") is None:
        raise SkipTest("it takes ip6tables to make a firewall of a machine")
    inside(machine, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    try:
        for rule in (*NEIGHBOUR_RULES, *ROUTER_RULES):
            inside(machine, "ip6tables", *rule.split())
    except subprocess.CalledProcessError as error:
        raise SkipTest(f"no firewall can be made here: {error.stderr.decode()[:200]}") from None


def make_router(machine: str, *, draws_ports: bool) -> None:
    """Let a machine translate the addresses behind its cable ``lan`` for those behind its cable ``wan``.

    One that draws its ports cannot be passed by two who call each other: neither knows the other's port.
    """
    if shutil.which("iptables") is None:
        raise SkipTest("it takes iptables to make a router of a machine")
    inside(machine, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    random = ["--random-fully"] if draws_ports else []
    try:
        masquerade = "-t nat -A POSTROUTING -o wan -j MASQUERADE".split()
        inside(machine, "iptables", *masquerade, *random)
        for rule in ROUTER_RULES:
            inside(machine, "iptables", *rule.split())
    except subprocess.CalledProcessError as error:
        raise SkipTest(f"no router can be made here: {error.stderr.decode()[:200]}") from None
