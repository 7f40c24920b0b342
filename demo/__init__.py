"""The demo: a sample workload, the stand-in provider that it calls, and the servers that show its metrics."""
