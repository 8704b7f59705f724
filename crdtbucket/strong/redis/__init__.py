"""One Redis as strong mode uses it: connection, topology and scripts.

Replies are parsed by hiredis; the client library redis-py is not used. Its URLs know neither
sentinels nor clusters, and its errors repeat parts of a password. It asks sentinels one after
another, so that a frozen one delays the failover, and does not check the role of the primary that
one names. What remains, a handshake of at most five commands, is shorter than an adapter.
"""
