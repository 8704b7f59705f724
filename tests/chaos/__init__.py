"""Measures what strong mode promises, on real servers that fail: python -m tests.chaos."""
