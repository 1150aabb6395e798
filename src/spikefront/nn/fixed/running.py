"""A network of whole numbers as it is run: integers in integer arithmetic, spikes as bits, added only where they are.

Logits are those of the network that ``conversion`` made, number by number. Between its layers travel bits, or
potentials as int32.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.fixed.whole_layers import LEAK_BITS, WholeConv, WholeNeuron
from spikefront.nn.inference import checked, replace
from spikefront.nn.kernels import sparse, whole
from spikefront.nn.kernels.pool import MaxPool
from spikefront.nn.kernels.sparse import Spikes
from spikefront.nn.sparse_conv import keeps_size, seconds
from spikefront.nn.torch_internals import watched

Model = TypeVar("Model", bound=nn.Module)

MOST_STEPS = 64  # that a membrane without a leak may add up
EXACT = 2**24  # up to which float32 has every whole number


class IntegerConv(WholeConv):
    """A convolution of whole numbers: spikes (``Spikes``, or float tensors of counts), an image, potentials -> int32.

    Sums of spikes are made in 16 and 32 bits where a spike is, all others in floats that hold them exactly.

    Attributes:
        sparse: True or False; None: the first spikes decide, on which both ways are timed.
        spikes: of a neuron that alone it reads, the most at once; None: it reads something else.
        rate: spikes an input element in those; ``crossover``: the rate at which both would take as long. Both None
            before, or without a decision by time.
    """

    def __init__(self, conv: WholeConv, choice: bool | None) -> None:
        sizes: Any = conv.kernel_size, conv.stride, conv.padding, conv.dilation
        channels = conv.in_channels, conv.out_channels
        super().__init__(*channels, *sizes, conv.groups, False, device="meta")  # type: ignore[misc, call-arg]
        self.step, self.most, self.unit = conv.step, conv.most, conv.unit
        self._hold(conv.weight, conv.gain, conv.offset)
        able = keeps_size(conv) and conv.unit is None and conv.most is None and conv.step == 1
        able = able and whole.available() and whole.fits(conv.in_channels, conv.kernel_size[0] ** 2)
        self.sparse = choice if able else False
        self.rate: float | None = None
        self.crossover: float | None = None
        self.spikes: int | None = None
        self._packed: whole.Packed | None = None
        self._dense: dict[torch.dtype, Tensor] = {}
        self._columns: tuple[Tensor, Tensor] | None = None

    @property
    def reads_bits(self) -> bool:
        """Whether neurons should hand it bits."""
        return self.sparse is not False

    def forward(self, x: Tensor | Spikes, onto: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """What it gives for frames ``(N, C, H, W)``, added to ``onto``."""
        spikes = self._spikes(x)
        if spikes is not None and self.sparse is None and not watched(self):
            self._decide(spikes)
        if spikes is not None and self.sparse and self.within(spikes.planes):
            return whole.convolve(spikes, self._packed_layer(), onto)
        out = self._multiplied(x.dense() if isinstance(x, Spikes) else x)
        return out if onto is None else within_30_bits(onto + out)

    def fires(self, x: Any, norm: nn.Module, neuron: Any) -> bool:
        """Whether ``fire`` can do ``neuron(conv(x))`` in one pass, with bits that ``neuron.readers`` want."""
        if not (
            isinstance(neuron, IntegerNeuron)
            and type(norm) is nn.Identity
            and bool(neuron.readers)
            and not watched(self)
            and sparse.unwatched(neuron)
        ):
            return False
        if isinstance(x, Spikes):
            return self.sparse is True and self.within(x.planes, neuron.sums(x.shape[0]))
        most = self.most or self.spikes
        return (
            most is not None
            and self.sparse is False
            and type(x) is Tensor
            and (x.dim(), x.device.type) == (5, "cpu")
            and x.numel() > 0
            and whole.available()
            and most * self._sum < EXACT
            and self.within(most, neuron.sums(MOST_STEPS))
        )

    def fire(self, x: Tensor | Spikes, neuron: IntegerNeuron, timesteps: int | None = None) -> Spikes:
        """``neuron(conv(x))`` of spikes or an image ``(T, B, C, H, W)``, or of one frame shown ``timesteps`` times."""
        constants = neuron.constants_for(self.out_channels)
        if isinstance(x, Spikes):
            return whole.convolve_and_fire(x, self._packed_layer(), constants)
        if self._columns is None:
            self._columns = whole.columns(self.gain, self.offset)
        totals = self._totals(x.flatten(0, 1), torch.float32).unflatten(0, x.shape[:2])
        return whole.fire(totals, timesteps, constants, self._columns)

    def adds(self, x: Any, norm: nn.Module, onto: Tensor) -> bool:
        """Whether ``add`` can do ``onto + norm(conv(x))``."""
        return onto.dtype == torch.int32 and type(norm) is nn.Identity and not watched(self)

    def add(self, x: Any, onto: Tensor) -> Tensor:
        """``onto + conv(x)`` of ``(T, B, C, H, W)``."""
        return self(x.flatten(0, 1), onto.flatten(0, 1)).unflatten(0, onto.shape[:2])

    def beside(self, others: Sequence[IntegerConv]) -> IntegerConv:
        """The convolution that gives its channels, and after them those of ``others``, which read the same."""
        made = copy.deepcopy(self)
        parts = ([getattr(conv, name) for conv in (self, *others)] for name in ("weight", "gain", "offset"))
        made._hold(*map(torch.cat, parts))
        return made

    def _hold(self, weight: Tensor, gain: Tensor, offset: Tensor) -> None:
        self.out_channels, self.weight = len(weight), nn.Parameter(weight.detach(), False)
        self.register_buffer("gain", gain)
        self.register_buffer("offset", offset)
        sums = weight.abs().flatten(1).sum(1)
        self._sum, self._scaled, self._offset = (int(t.max()) for t in (sums, sums * gain.abs(), offset.abs()))

    def within(self, most: int, steps: int = 1) -> bool:
        """Whether ``steps`` of its potentials together are numbers that the kernels hold, for inputs up to ``most``."""
        return (self._scaled * most + self._offset) * steps <= whole.LARGEST

    def _spikes(self, x: Tensor | Spikes) -> Spikes | None:
        if isinstance(x, Spikes):
            return x
        if self.sparse is False or x.device.type != "cpu" or x.dtype == torch.int32:
            return None
        return whole.encode(x)

    def _multiplied(self, x: Tensor) -> Tensor:
        most = self.most or self.spikes
        if most is None:
            most = int(max(map(abs, torch.aminmax(self.whole(x) if self.step != 1 else x)))) if x.numel() else 0
        kind = torch.float32 if most * self._sum < EXACT else torch.float64
        total = self._totals(x, kind)
        if self.unit is not None:
            return self.scaled(total.double())
        if self.within(most):
            gain, offset = (t.to(torch.int32).view(-1, 1, 1) for t in (self.gain, self.offset))
            return total.to(torch.int32).mul_(gain).add_(offset)
        return within_30_bits(self.scaled(total.double())).to(torch.int32)

    def _totals(self, x: Tensor, kind: torch.dtype) -> Tensor:
        """The sums of frames, by multiplications in floats."""
        x = self.whole(x) if self.step != 1 or self.most is not None else x
        if kind not in self._dense:
            self._dense[kind] = self.weight.to(kind).contiguous(memory_format=torch.channels_last)
        return self._conv_forward(x.to(kind), self._dense[kind], None)

    def _packed_layer(self) -> whole.Packed:
        if self._packed is None:
            self._packed = whole.pack(self.weight, self.gain, self.offset)
        return self._packed

    def _decide(self, spikes: Spikes) -> None:
        by_spikes = seconds(lambda: whole.convolve(spikes, self._packed_layer()))
        floats = spikes.dense()
        by_zeros = seconds(lambda: self._multiplied(floats))
        self.rate = float(floats.mean())
        self.crossover = self.rate * by_zeros / by_spikes
        self.sparse = by_spikes < by_zeros

    def extra_repr(self) -> str:
        how = {True: "sparse", False: "dense", None: "undecided"}[self.sparse]
        if self.rate is None or self.crossover is None:
            return f"{super().extra_repr()}, int8, {how}"
        return f"{super().extra_repr()}, int8, {how}: rate {self.rate:.3f}, crossover {self.crossover:.2f}"


class IntegerNeuron(WholeNeuron):
    """``WholeNeuron`` in integers. Gives counts in float32, or bits where ``readers`` take those."""

    fuses = True

    def __init__(self, neuron: WholeNeuron) -> None:
        own = neuron.constants_of()
        super().__init__(neuron.thresholds, drop=neuron.drop, **own)
        self._known: dict[int, tuple[whole.Neuron, list[Tensor]]] = {}

    def forward(self, x: Tensor, norm: Any = None, timesteps: int | None = None) -> Any:
        if norm is not None and type(norm) is not nn.Identity:
            raise UserError(f"a network of whole numbers has no {type(norm).__name__} before a neuron")
        x = x if self.step == 1 else (x.double() / self.step).round()
        steps = self.sums(timesteps or len(x))
        small = steps == 1 or (x.numel() and int(x.abs().max()) * steps <= whole.LARGEST)
        if not (x.device.type == "cpu" and whole.available() and x.numel() and small):
            x = x if timesteps is None or len(x) == timesteps else x.expand(timesteps, *x.shape[1:])
            return self.fired(x.long()).float()
        place = x.dim() - self.channel
        before, channels, after = math.prod(x.shape[1:place]), x.shape[place], math.prod(x.shape[place + 1 :])
        frames = x if (x.dim(), place) == (5, 2) else x.reshape(len(x), before, channels, after, 1)
        spikes = whole.fire(frames, timesteps, self.constants_for(channels))
        if frames is x and self.readers and sparse.unwatched(self):
            return spikes
        return spikes.dense().reshape(spikes.shape[0], *x.shape[1:])

    def sums(self, timesteps: int) -> int:
        """How many of its currents a membrane can hold together."""
        return timesteps if self.leak + self.gain > 2**LEAK_BITS else 1

    def constants_for(self, channels: int) -> whole.Neuron:
        """What a kernel must know of it."""
        if channels not in self._known:
            self._known[channels] = whole.neuron(self.leak, self.gain, self.thresholds, self.drop, channels)
        return self._known[channels][0]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known": {}}  # pointers are nobody else's

    def settings(self) -> tuple[object, ...]:
        """What neurons have in common that may be one, each with thresholds of its own channels."""
        return type(self), self.leak, self.gain, self.levels, self.reset, self.step, self.channel

    def beside(self, others: Sequence[IntegerNeuron], channels: Sequence[int]) -> IntegerNeuron:
        """The neuron of its channels and then of those of ``others``, ``channels`` each."""
        every = [self, *others]
        wide = [n.thresholds.expand(-1, c) for n, c in zip(every, channels, strict=True)]
        made = IntegerNeuron(self)
        made.register_buffer("thresholds", torch.cat(wide, 1))
        if self.drop is not None:
            drops = [n.drop.expand(c) for n, c in zip(every, channels, strict=True) if n.drop is not None]
            made.register_buffer("drop", torch.cat(drops))
        return made


def within_30_bits(x: Tensor) -> Tensor:
    """``x`` as it is. Raises UserError if it has a number that the kernels don't hold."""
    if x.numel() and x.abs().max() > whole.LARGEST:
        raise whole.beyond()
    return x


def running(network: Model, sparse: bool | str = "auto") -> Model:
    """A copy of a network of whole numbers that computes in integers, with equal logits.

    ``sparse`` as of ``inference.for_inference``.
    """
    choice = None if checked(sparse) == "auto" else bool(sparse)
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for name, module in list(network.named_modules()):
        if type(module) is WholeConv:
            replace(network, name, IntegerConv(module, choice))
        elif type(module) is WholeNeuron:
            replace(network, name, IntegerNeuron(module))
    for module in list(network.modules()):
        getattr(module, "join", lambda: None)()
    for module in network.modules():
        for neuron, readers in getattr(module, "handovers", tuple)():
            several = getattr(neuron, "levels", 1) > 1
            if isinstance(neuron, IntegerNeuron):
                for reader in readers:
                    reader.spikes = neuron.levels  # type: ignore[assignment]  # of a convolution
                if not (several and any(not _adds(r) for r in readers)):
                    neuron.readers = tuple(readers)
    return network


def _adds(reader: nn.Module) -> bool:
    """Whether it can read several spikes at once from planes of bits."""
    return isinstance(reader, IntegerConv | MaxPool)
