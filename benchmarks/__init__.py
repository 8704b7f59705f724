"""Benchmarks of speed, memory and traffic. Each file asks one question; `python -m benchmarks`
answers them."""
