"""Serve the node's own page, on this machine only.

    metrics.py   C  a snapshot as Prometheus text
    app.py       S  the routes, and the guard in front of them (door: starlette)
    service.py   S  the entry point: a loopback port, served in the node's nursery (door: hypercorn)

static/ holds the page: one HTML file, one stylesheet, hand-written ES modules that draw SVG. Nothing in it is
fetched from another host, and text that a peer chose enters the page through ``textContent`` only.
"""
