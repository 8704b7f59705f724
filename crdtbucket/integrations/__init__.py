"""Limits in the frameworks of models, RPC and tools, each by the interface that it has for them."""
