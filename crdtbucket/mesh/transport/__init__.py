"""The network of a node: its links, whatever carries them, and the timer of the protocol."""
