"""Examines everything that a configuration depends on, before or while a node runs."""
