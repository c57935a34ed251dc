"""Evaluation: scores of whole splits, predictions, and the tables and charts of both."""
