"""Histories of real nodes under faults, and a checker that accounts for every token."""
