"""Limits of services that this program calls: requests wait for tokens of a bucket, whose level
follows what the service reports."""
