"""One plain TCP connection that copies a file over loopback, the baseline of blobs in ``scripts/bench net``.

Child of ``benchmarks/net.py``: sends the file to whoever connects. ``copy`` is the other end, in the parent.
"""

import argparse
import json
import socket
import time
from pathlib import Path

BLOCK_BYTES = 1 << 20


def main() -> None:
    """Send the file once for each connection, until the parent ends this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, required=True)
    args = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        while True:
            connection, _ = listener.accept()
            with connection, args.file.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    connection.sendall(block)


def copy(port: int, target: Path) -> float:
    """Copy the file to ``target``, and return the seconds from the dial to the last byte written."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection, target.open("wb") as file:
        while count := connection.recv_into(buffer):
            file.write(buffer[:count])
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
