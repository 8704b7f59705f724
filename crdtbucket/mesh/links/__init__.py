"""Links of a node to proven peers, whatever carries their frames: channel, handshake, dialer."""
