"""Metrics: numbers for reports, pure functions."""
