"""A model of large fleets on one key: a flat mesh, and regions whose leaders exchange sums."""
