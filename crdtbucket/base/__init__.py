"""What every side uses and what knows nothing of limits: clocks, durations, addresses."""
