"""One hivemind averager in ``scripts/bench wire``, told what to do on stdin.

Child of ``benchmarks/wire.py``: hivemind and libp2p cannot live in one process. Its defaults are kept but for
a short matchmaking; a group starts when it is complete, so that nothing waits for these seconds here.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

MATCHMAKING_S, REQUEST_S = 2.0, 1.0
STEP_S = 120.0


def main() -> None:
    """Serve one parent until it closes stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seat", type=int, required=True)
    parser.add_argument("--numel", type=int, required=True)
    parser.add_argument("--group", type=int, default=2)
    parser.add_argument("--fp16", action="store_true")
    parser.add_argument("--first", default="", help="the address of the first peer")
    args = parser.parse_args()
    torch.set_num_threads(1)
    # After the threads are set; hivemind's own types are incomplete.
    from hivemind.averaging.averager import DecentralizedAverager  # noqa: PLC0415
    from hivemind.compression.base import NoCompression  # noqa: PLC0415
    from hivemind.compression.floating import Float16Compression  # noqa: PLC0415
    from hivemind.dht.dht import DHT  # noqa: PLC0415

    dht: Any = DHT(
        initial_peers=[args.first] if args.first else None,
        host_maddrs=["/ip4/127.0.0.1/tcp/0"],
        start=True,
    )
    averager: Any = DecentralizedAverager(
        [torch.zeros(args.numel)],
        dht,
        start=True,
        prefix="bench",
        target_group_size=args.group,
        min_matchmaking_time=MATCHMAKING_S,
        request_timeout=REQUEST_S,
        compression=Float16Compression() if args.fp16 else NoCompression(),
    )
    _send({"addresses": [str(address) for address in dht.get_visible_maddrs()]})
    own = torch.Generator().manual_seed(args.seat + 1)
    while sys.stdin.readline():
        with averager.get_tensors() as (theta_N,):
            theta_N.normal_(generator=own)
        _send({"ready": True})
        sys.stdin.readline()
        began = time.perf_counter()
        group = averager.step(timeout=STEP_S)
        seconds = time.perf_counter() - began
        is_whole = group is not None and len(group) == args.group
        _send({"seconds": seconds if is_whole else None})
    averager.shutdown()
    dht.shutdown()


def _send(answer: Mapping[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
