"""Clocks, durations, addresses and other tools that every folder uses and that know nothing of
limits."""
