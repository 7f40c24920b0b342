"""Budgets and thresholds: their limits, current spending, and events."""
