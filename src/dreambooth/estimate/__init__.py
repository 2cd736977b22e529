"""Prediction of a run's memory before it starts."""
