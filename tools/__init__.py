"""Find, download, start and stop the servers that the demo, the tests and the benchmarks need."""
