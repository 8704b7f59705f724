"""The mesh: nodes that keep one limit by telling each other what they took."""
