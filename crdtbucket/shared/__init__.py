"""One table for all processes of a host: its file, its leader, and what a new leader takes over."""
