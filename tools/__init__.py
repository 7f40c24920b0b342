"""Servers for the demo, the tests and the benchmarks: finding, fetching and starting them."""
