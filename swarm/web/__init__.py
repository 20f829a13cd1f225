"""Serve the page, the local API and the metrics.

Modules (C: pure, S: does I/O):

    app.py     S  Answer HTTP requests from this machine: state, events, metrics, actions, the page.
    metrics.py C  Turn a snapshot of a node into the text that Prometheus scrapes.
    service.py S  Serve the local page in the node's nursery: the entry point of the web package.
"""
