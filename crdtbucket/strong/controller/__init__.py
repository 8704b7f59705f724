"""Decides when the mode of a Redis server changes, and who is notified."""
