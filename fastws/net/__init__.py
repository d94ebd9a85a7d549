"""Connections: the way out, the way in, and the copy between two of them."""
