"""swarm: train one model together with strangers, and prove it was done honestly."""

__version__ = "0.2.0"
