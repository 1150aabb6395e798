"""Weights & Biases, figures and the HTML report; knows plain records only."""

from spikefront.tracking.wandb import wandb_logger

__all__ = ["wandb_logger"]
