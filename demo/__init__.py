"""The demo: a sample workload, the stand-in provider it calls, and the servers that show it."""
