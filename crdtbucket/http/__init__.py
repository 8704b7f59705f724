"""Limits in HTTP: header fields, client addresses, and middleware for the common frameworks."""
