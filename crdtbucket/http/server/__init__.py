"""The sidecar: a limiter that answers over HTTP."""
