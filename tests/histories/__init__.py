"""Histories of real nodes under faults, and a checker that wants every token accounted for."""
