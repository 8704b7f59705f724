"""Limits in frameworks for language models, RPC and tools, by the interface of each framework."""
