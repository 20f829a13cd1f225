"""A router that forwards ports to who asks it by UPnP, as far as a home has one; a test may spoil its answers.

As a program it serves the machine that it runs on, whose cables are ``lan`` and ``wan``, and forwards by
iptables.
"""

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

KIND = "urn:schemas-upnp-org:service:WANIPConnection:1"
DESCRIPTION = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major></specVersion><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device><deviceList><device>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType>
<controlURL>/other</controlURL></service><service><serviceType>{kind}</serviceType>
<controlURL>{control}</controlURL></service></serviceList></device></deviceList></device></deviceList></device></root>"""
REPLY = """<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
{}</s:Body></s:Envelope>"""
FAULT = "<s:Fault><detail><UPnPError><errorCode>{}</errorCode></UPnPError></detail></s:Fault>"

Entry = tuple[str, str]
"""Host and port that a port is forwarded to."""


@dataclass
class Router:
    """What a router has been asked, and how it answers."""

    host: str
    external: str
    changed: Callable[[str, Entry | None], None] = lambda _port, _entry: None
    location: str = ""
    """Where it says that its description is; "" for the truth."""
    description: str = ""
    control: str = "/ctl"
    only_permanent: bool = False
    raw: bytes = b""
    """What it answers by TCP to anything."""
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Actions, and the lease of each that names one."""
    port: int = 0

    async def serve(
        self,
        search: Any,  # noqa: ANN401  trio's class has no public name
        *,
        task_status: Any = trio.TASK_STATUS_IGNORED,  # noqa: ANN401
    ) -> None:
        """Answer searches that come to a socket, and questions by TCP, until cancelled."""
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host=self.host)
            self.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(partial(trio.serve_listeners, self._answer, listeners))
            task_status.started()
            while True:
                question, sender = await search.recvfrom(2_000)
                if question.startswith(b"M-SEARCH"):
                    at = self.location or f"http://{self.host}:{self.port}/desc.xml"
                    lines = ("HTTP/1.1 200 OK", "EXT:", f"LOCATION: {at}", "ST: a router", "", "")
                    await search.sendto("\r\n".join(lines).encode(), sender)

    async def _answer(self, stream: trio.SocketStream) -> None:
        data = b""
        async with stream:
            while not (head := data.partition(b"\r\n\r\n"))[1] or len(head[2]) < _length(head[0]):
                part = await stream.receive_some(4_096)
                if not part:
                    return
                data += part
            if self.raw:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(self.raw)
                return
            status, text = self._reply(data.decode())
            lines = (f"HTTP/1.1 {status} It", f"Content-Length: {len(text)}", "", text)
            await stream.send_all("\r\n".join(lines).encode())

    def _reply(self, question: str) -> tuple[int, str]:
        if question.startswith("GET /desc.xml"):
            whole = DESCRIPTION.format(kind=KIND, control=self.control)
            return 200, self.description or whole
        fields = dict(re.findall(r"<(New\w+)>([^<]*)</", question))
        action = re.findall(r'#(\w+)"', question)[0]
        self.asked.append((action, fields.get("NewLeaseDuration", "")))
        port = fields.get("NewExternalPort", "")
        match action:
            case "GetExternalIPAddress":
                address = f"<NewExternalIPAddress>{self.external}</NewExternalIPAddress>"
                return 200, REPLY.format(address)
            case "GetSpecificPortMappingEntry" if port in self.entries:
                client = f"<NewInternalClient>{self.entries[port][0]}</NewInternalClient>"
                return 200, REPLY.format(client)
            case "AddPortMapping" if self.only_permanent and fields["NewLeaseDuration"] != "0":
                return 500, REPLY.format(FAULT.format(725))
            case "AddPortMapping":
                entry = fields["NewInternalClient"], fields["NewInternalPort"]
                if self.entries.get(port) != entry:
                    self.entries[port] = entry
                    self.changed(port, entry)
            case "DeletePortMapping" if port in self.entries:
                del self.entries[port]
                self.changed(port, None)
            case _:
                return 500, REPLY.format(FAULT.format(714))
        return 200, REPLY.format("")


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)content-length: (\d+)", head)
    return int(found[1]) if found else 0


def by_iptables(port: str, entry: Entry | None) -> None:
    """Forward a port from the cable ``wan``, or no more."""
    to = entry or FORWARDED.pop(port)
    FORWARDED[port] = to
    match = f"-i wan -p tcp --dport {port}"
    for rule in (
        f"-t nat {'-I' if entry else '-D'} PREROUTING {match} -j DNAT --to {to[0]}:{to[1]}",
        f"{'-I' if entry else '-D'} FORWARD -i wan -p tcp -d {to[0]} --dport {to[1]} -j ACCEPT",
    ):
        subprocess.run(["iptables", *rule.split()], check=True)
    print("forwards" if entry else "ends", port, flush=True)


FORWARDED = dict[str, Entry]()


async def main(host: str, external: str) -> None:
    """Serve until killed."""
    search = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await search.bind(("", 1900))
    member = socket.inet_aton("239.255.255.250") + socket.inet_aton(host)
    search.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    print("ready", flush=True)
    await Router(host, external, by_iptables).serve(search)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
