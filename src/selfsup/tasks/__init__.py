"""Labelled examples: heads, losses and metrics."""
