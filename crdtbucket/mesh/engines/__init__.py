"""Links over a message engine that others run: NATS, or the channels of a Redis."""
