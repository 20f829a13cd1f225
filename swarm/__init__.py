"""swarm: train one model together with strangers, and verify each other's work."""

__version__ = "0.2.0"
