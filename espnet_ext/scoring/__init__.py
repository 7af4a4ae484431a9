"""Metrics, intervals, plots and reports on predictions.csv."""
