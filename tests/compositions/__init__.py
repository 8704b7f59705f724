"""Every way to run a limiter against every event in a process' life, with real processes."""
