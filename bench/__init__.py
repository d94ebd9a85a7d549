"""Benchmarks: ``bench.micro`` times single pieces, ``bench.e2e`` whole programs."""
