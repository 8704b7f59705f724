"""Speed, memory and traffic, measured: one question a file, `python -m benchmarks` answers them."""
