"""Several upstreams behind one name, and connections kept for reuse."""
