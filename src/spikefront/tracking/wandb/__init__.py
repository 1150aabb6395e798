"""Weights & Biases: runs, studies and projects there."""
