"""One rank of torch's gloo all-reduce in ``scripts/bench wire``, told what to do on stdin.

Child of ``benchmarks/wire.py``. gloo takes no proxy: with ``--narrow`` the address that a rank reads of the
other one is replaced by that of a narrow line to it. The rank with the lower port listens and the other one
dials, so only one line is used, and its port must keep that order.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Mapping

import torch
from torch._C._distributed_c10d import FileStore, Store
from torch.distributed import all_reduce, barrier, init_process_group

from benchmarks.wire_children import Proxy

ADDRESS = re.compile(rb"\x02\x00(..)\x7f\x00\x00\x01", re.DOTALL)
"""An IPv4 loopback address among the bytes that gloo puts into its store."""
NO_PORT = 65_535
"""Address for the listening rank, which never dials."""


class Detour(Store):
    """A store in which the other rank's address is that of a proxy to it."""

    def __init__(self, inside: Store, delay_ms: float, bytes_per_s: float) -> None:
        super().__init__()
        self._inside = inside
        self._weather = {"delay_ms": delay_ms, "bytes_per_s": bytes_per_s}
        self._own: dict[str, int] = {}
        self.proxy: Proxy | None = None

    def set(self, key: str, value: bytes) -> None:  # type: ignore[override]
        """Publish a value; remember our own port."""
        if found := ADDRESS.search(bytes(value)):
            self._own[key] = int.from_bytes(found[1], "big")
        self._inside.set(key, value)  # type: ignore[arg-type]

    def get(self, key: str) -> bytes:
        """Read a value, and bend an address that is not ours."""
        value = bytes(self._inside.get(key))
        found = ADDRESS.search(value)
        if found is None or key in self._own:
            return value
        theirs, ours = int.from_bytes(found[1], "big"), max(self._own.values())
        port = NO_PORT
        if theirs < ours:
            self.proxy = self.proxy or Proxy("127.0.0.1", theirs, below=ours, **self._weather)
            port = self.proxy.port
        return value[: found.start(1)] + port.to_bytes(2, "big") + value[found.end(1) :]

    def wait(self, keys: list[str], *timeout: object) -> None:
        """Wait for keys."""
        self._inside.wait(keys, *timeout)

    def add(self, key: str, amount: int) -> int:
        """Count."""
        return self._inside.add(key, amount)

    def check(self, keys: list[str]) -> bool:
        """Return True if keys are there."""
        return self._inside.check(keys)


def main() -> None:
    """Serve one parent until it closes stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seat", type=int, required=True)
    parser.add_argument("--numel", type=int, required=True)
    parser.add_argument("--group", type=int, default=2)
    parser.add_argument("--store", required=True, help="a file that both ranks name")
    parser.add_argument("--narrow", nargs=2, type=float, metavar=("MS", "BYTES_PER_S"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store: Store = FileStore(args.store, args.group)
    detour = Detour(store, *args.narrow) if args.narrow else None
    init_process_group("gloo", store=detour or store, rank=args.seat, world_size=args.group)
    theta_N = torch.empty(args.numel)
    own = torch.Generator().manual_seed(args.seat + 1)
    _send({"up": True})
    while sys.stdin.readline():
        theta_N.normal_(generator=own)
        before = _carried(detour)
        barrier()
        _send({"ready": True})
        sys.stdin.readline()
        began = time.perf_counter()
        all_reduce(theta_N)
        theta_N /= args.group
        _send({"seconds": time.perf_counter() - began, "carried": _carried(detour) - before})
    if detour is not None and detour.proxy is not None:
        detour.proxy.close()


def _carried(detour: Detour | None) -> int:
    return sum(detour.proxy.carried()) if detour is not None and detour.proxy is not None else 0


def _send(answer: Mapping[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
