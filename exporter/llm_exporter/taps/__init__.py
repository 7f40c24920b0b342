"""Taps see the calls of each SDK: one file per SDK."""
