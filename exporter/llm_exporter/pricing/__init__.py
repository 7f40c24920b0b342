"""Providers, price tables and the cost of a call."""
