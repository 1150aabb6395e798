"""What training a network will cost, known before it is trained."""

from spikefront.planning.glimpse import untrained
from spikefront.planning.outline import outline
from spikefront.planning.outlook import outlook
from spikefront.planning.prediction import Cost, predict_cost

__all__ = ["Cost", "outline", "outlook", "predict_cost", "untrained"]
