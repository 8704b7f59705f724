"""The network of a node: sockets, handshakes, discovery and the timer of the protocol."""
