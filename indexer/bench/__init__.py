"""Benches: what fc7's speed is, measured as a user meets it, in one run on this machine."""
