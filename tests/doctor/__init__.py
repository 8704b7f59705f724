"""The doctor finds each fault, at real servers and nodes."""
