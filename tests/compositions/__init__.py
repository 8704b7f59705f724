"""Every way to run a limiter with every event in the life of a process, with real processes."""
