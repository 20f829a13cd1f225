"""The peers of hivemind's DHT in ``scripts/bench net``, told what to do on stdin.

Child of ``benchmarks/net.py``: hivemind and libp2p cannot live in one process. All of its peers start here;
each has processes of its own, hivemind's worker and libp2p's daemon in Go. Its defaults are kept.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

TTL_S = 3600.0


def main() -> None:
    """Serve one parent until it closes stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, required=True)
    args = parser.parse_args()
    from hivemind.dht.dht import DHT  # noqa: PLC0415  takes seconds, and its types are incomplete

    dhts = list[Any]()
    for _ in range(args.peers):
        first = [str(address) for address in dhts[0].get_visible_maddrs()] if dhts else None
        dhts.append(DHT(initial_peers=first, host_maddrs=["/ip4/127.0.0.1/tcp/0"], start=True))
    _send({"ready": True})
    while line := sys.stdin.readline():
        order: dict[str, Any] = json.loads(line)
        dht, key = dhts[order["at"]], str(order["key"])
        began = time.perf_counter()
        if order["do"] == "store":
            is_done = bool(dht.store(key, order["value"], time.time() + TTL_S))
        else:
            found = dht.get(key, latest=bool(order["latest"]))
            is_done = found is not None and found.value == order["value"]
        _send({"seconds": time.perf_counter() - began, "done": is_done})
    for dht in dhts:
        dht.shutdown()


def _send(answer: Mapping[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
