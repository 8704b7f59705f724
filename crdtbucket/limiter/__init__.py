"""The limiter of one process: buckets, several buckets at once, reservations, waiting, services."""
