"""Several upstreams behind one name: which is alive, and which takes the next one."""
