"""What a limit is: bucket specifications, overrides for keys that match, and modes."""
