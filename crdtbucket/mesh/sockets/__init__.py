"""Links over WebSockets: a listener, dials, and where the addresses of peers come from."""
