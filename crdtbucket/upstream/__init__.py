"""Limits of services that this program calls: requests wait for a bucket, which follows them."""
