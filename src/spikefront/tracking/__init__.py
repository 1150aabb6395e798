"""Weights & Biases, figures and the HTML report; knows plain records only."""
