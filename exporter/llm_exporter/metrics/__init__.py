"""Calls as Prometheus metrics: `specs` says which, `collector` counts, `series` keeps, `rendering` writes."""
