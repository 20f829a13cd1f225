"""Spot checks: a step of a window is checked at elements that nobody knew before its traces were committed."""
