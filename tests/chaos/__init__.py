"""What strong mode promises, measured on real servers that fail: python -m tests.chaos."""
