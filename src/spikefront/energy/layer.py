"""One layer of a network as the energy meter sees it: what it is and what its shapes tell."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

SYNAPSES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
DIMENSIONS = {2: (nn.Linear,), 3: (nn.Conv1d, nn.MaxPool1d), 4: (nn.Conv2d, nn.MaxPool2d), 5: (nn.Conv3d, nn.MaxPool3d)}
GROUPS = {
    "patch_embed": "embedding",
    "attn.op": "attention operator",
    "attn": "attention projections",
    "mlp": "mlp",
    "head": "head",
}


def dimensions(module: nn.Module) -> int | None:
    """Of an input as PyTorch documents it, with the batch; more of them is time in front. None: not known."""
    return next((count for count, kinds in DIMENSIONS.items() if isinstance(module, kinds)), None)


@dataclass(frozen=True)
class Layer:
    """One thing that costs energy, as its shapes tell.

    Attributes:
        kind: ``synapse`` (convolution or linear layer), ``pool``, ``attention`` (has ``operations``), ``neuron``, or
            ``unclassified``: matrix products that belong to none of these.
        lead: leading dimensions of its input that are time and batch: 2 for ``(T, B, ...)``, 1 for ``(T*B, ...)``.
        static: its input has no time: it sees the same at every timestep.
        channels_last: whether the last dimension of the input is the channel, as in a linear layer.
        potential, inputs, outputs: synaptic operations if everything fired, input and output elements, a sample and
            timestep.
        parameters: weights and biases.
        first: reads the network's own input.
        analog: an attention operator that multiplies real values (softmax attention).
        tokens, width: N and D of an attention operator.
        unit: what its input is multiplied by to be whole spikes: the ``norm`` of integer neurons.
        levels: the most spikes that a neuron fires at once.
        chunk: how many timesteps an attention takes at once.
        shares: reads what the convolution, linear layer or pool before it read, unchanged, as keys do beside queries.
    """

    name: str
    kind: str
    input_shape: tuple[int, ...]
    potential: float
    inputs: float
    outputs: float
    parameters: int = 0
    lead: int = 1
    static: bool = False
    channels_last: bool = False
    first: bool = False
    analog: bool = False
    tokens: int = 0
    width: int = 0
    unit: float = 1.0
    levels: int = 1
    chunk: int = 1
    shares: bool = False

    def spikes(self, x: Tensor) -> Tensor:
        """Its input in whole spikes."""
        return x if self.unit == 1 else x * self.unit

    @property
    def group(self) -> str:
        path = ".".join(p for p in self.name.split(".") if not p.isdigit() and p not in ("block", "stages"))
        for prefix, group in GROUPS.items():
            if path == prefix or path.startswith((prefix + ".", prefix + "_")):
                return group
        return path.split(".")[0] or self.name


def is_synapse(module: nn.Module) -> bool:
    """Whether a module is one linear map of its input: a convolution, or what is ``merged`` to one at inference."""
    return isinstance(module, SYNAPSES) or hasattr(module, "merged")
