"""End to end: fastws and its peers under one load generator, interleaved."""
