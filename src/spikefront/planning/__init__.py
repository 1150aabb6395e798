"""What training a network will cost, known before it is trained."""

from spikefront.planning.prediction import Cost, predict_cost

__all__ = ["Cost", "predict_cost"]
