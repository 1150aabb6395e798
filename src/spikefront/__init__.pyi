from .api import create_model as create_model
from .api import load_checkpoint as load_checkpoint
from .energy import measure_energy as measure_energy
from .energy import predict_cost as predict_cost
from .nn import audit as audit
