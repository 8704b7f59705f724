"""The metrics of a limiter for Prometheus."""
