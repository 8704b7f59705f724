"""One Redis as strong mode uses it: connection, topology and scripts."""
