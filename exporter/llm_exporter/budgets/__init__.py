"""Budgets and thresholds: what may be spent, what is, and who is told."""
