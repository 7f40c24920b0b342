"""Readers of the providers' wire formats: they turn response bytes into usage, without importing an SDK."""
