from .api import audit as audit
from .api import create_model as create_model
from .api import list_models as list_models
from .energy import measure_energy as measure_energy
from .exporting.pretrained import from_pretrained as from_pretrained
from .nn.checkpoints import load_checkpoint as load_checkpoint
from .planning import predict_cost as predict_cost
from .training.inheritance import extract as extract
