"""The mesh: nodes that keep one limit by sending each other what they took."""
