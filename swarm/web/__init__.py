"""Serve the page, the local API and the metrics.

Modules (C: pure, S: does I/O):

    app.py     S  Answer the people at this machine: state, events, metrics, the page.
    metrics.py C  Turn a snapshot of a node into the text that Prometheus scrapes.
    service.py S  Serve the local page in the node's nursery: the door of the web room.
"""
