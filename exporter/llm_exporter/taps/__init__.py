"""Taps: how the calls of each SDK are seen."""
