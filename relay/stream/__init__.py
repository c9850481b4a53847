"""Feeds, fan-out and bounded queues. No I/O, no clock: `now` is an argument."""
