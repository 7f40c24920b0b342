"""Prometheus metrics of calls: `specs` lists them, `collector` composes the parts, `http` serves them."""
