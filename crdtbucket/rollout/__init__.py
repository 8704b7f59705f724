"""Brings a new configuration into force: at once by a reload, or stage by stage."""
