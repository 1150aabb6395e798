"""What every family of spiking transformers shares: input, time, deployment, and what of it may be computed how."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.choosing import chosen
from spikefront.nn.fixed.conversion import in_whole_numbers
from spikefront.nn.fixed.running import running
from spikefront.nn.fixed.whole_layers import WholeNeuron
from spikefront.nn.graphs import Fast
from spikefront.nn.inference import checked, for_inference
from spikefront.nn.kernels import gradient_alike, packed_spikes
from spikefront.nn.layers import NeuronFactory, over_frames
from spikefront.nn.neurons import LIF
from spikefront.nn.recompute import recomputed
from spikefront.nn.sparse_conv import add_sparsely
from spikefront.nn.torch_internals import watched

INTEGER_BITS = 8
PREPARED = ("int8", "auto")  # weights that the first inputs decide
WITHIN = 0.01
GROUPS = ("embedding", "attention", "mlp", "head")

ModuleFactory = Callable[..., nn.Module]


class SpikingNetwork(nn.Module):
    """A spiking transformer for static images ``(B, C, H, W)`` or event frames ``(B, T, C, H, W)``.

    A family gives ``sections`` and ``classify``, and calls ``finish`` when it is built.

    Args:
        timesteps: T. A static image is shown T times; an event sample must have T frames.
        event_mode: the published pooling inside the attention for event cameras.
        neuron: a factory; a Hydra config with ``_partial_: true`` is one.
        neurons: keyword overrides of the neuron per group, ``{"mlp": {"threshold": 0.8}}``; None overrides nothing.
        drop_path: stochastic depth of the last block, growing linearly from 0 (published: 0).
        compile: steps as CUDA graphs on a GPU, through ``torch.compile`` on the CPU (see ``graphs``).
        checkpoint_blocks: keep only the blocks' inputs for the backward pass and run them again in it.

    Raises:
        UserError: sizes that don't fit together.
    """

    prepare: Callable[..., nn.Module] | None = None  # of a deployed network: makes it, at the first inputs

    def __init__(
        self,
        *,
        timesteps: int = 4,
        in_channels: int = 3,
        num_classes: int = 1000,
        event_mode: bool = False,
        neuron: NeuronFactory = LIF,
        neurons: Mapping[str, Mapping[str, Any]] | None = None,
        drop_path: float = 0.0,
        compile: bool = False,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        for key, value in (("compile", compile), ("checkpoint_blocks", checkpoint_blocks), ("event_mode", event_mode)):
            flag(key, value)
        if compile and checkpoint_blocks and drop_path:
            raise UserError(
                "model.compile, model.checkpoint_blocks and model.drop_path: a graph can't draw the same random"
                " numbers twice; leave one of them out"
            )
        whole("timesteps", timesteps)
        if timesteps < 1:
            raise UserError(f"model.timesteps is {timesteps}: a spiking network needs at least 1 timestep")
        if unknown := set(neurons or {}) - set(GROUPS):
            raise UserError(f"model.neurons has {', '.join(sorted(unknown))}: the groups are {', '.join(GROUPS)}")
        self.fast = Fast() if compile else None
        self.checkpoint_blocks, self.random = checkpoint_blocks, drop_path > 0
        self.timesteps, self.in_channels, self.num_classes = timesteps, in_channels, num_classes
        self.event_mode = event_mode
        # a family's classifier that reads an integer neuron's counts reads the spikes of any other as they are
        idle = set() if "norm" in inspect.signature(neuron).parameters else {"norm"}
        settings = {
            group: {k: v for k, v in (overrides or {}).items() if v is not None and k not in idle}
            for group, overrides in (neurons or {}).items()
        }
        self.neuron_of = {group: partial(neuron, **settings.get(group, {})) for group in GROUPS}

    def sections(self) -> Iterable[tuple[nn.Module, Iterable[nn.Module]]]:
        """An embedding and the blocks after it, one pair a stage."""
        raise NotImplementedError

    def classify(self, x: Tensor) -> Tensor:
        """The last stream ``(T, B, D, H, W)`` -> logits ``(T, B, classes)``."""
        raise NotImplementedError

    def finish(self, sparse: bool) -> None:
        """Begin with the published initialisation; ``sparse``: train by additions where spikes are few."""
        flag("sparse", sparse)
        for chunk in (getattr(module, "chunk", 1) for module in self.modules()):
            if self.timesteps % chunk:
                raise UserError(
                    f"model.timesteps is {self.timesteps}: an attention takes {chunk} timesteps at once"
                    f" (attention.chunk), so give a multiple of {chunk}"
                )
        del self.neuron_of  # made what it was for
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02) if isinstance(module, nn.Linear) else None
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if sparse:
            add_sparsely(self, True)

    def for_inference(
        self,
        sparse: bool | str = False,
        weights: str = "float32",
        batch: Tensor | None = None,
        within: float = WITHIN,
    ) -> Self:
        """A faster copy with equal outputs, for inference only: norms folded, projections joined, graphs on a GPU.

        Args:
            sparse: ``True`` adds only where a spike is, ``"auto"`` in those layers where that is faster (CPU).
            weights: what those layers hold: ``"float32"``; ``"bfloat16"``; ``"int8"``, a network of whole numbers
                altogether (see ``fixed``), whose logits are near and exact in themselves; ``"auto"``, of each layer
                what is fastest (see ``choosing``).
            batch: typical inputs, which say what the largest of an int8 network is and on which ``"auto"`` decides;
                None: the first that come.
            within: by how much ``weights="auto"`` may change logits, in parts of their norm.

        Raises:
            UserError: another value, or a network that whole numbers can't express (with ``batch``, else at the first
                inputs).
        """
        checked(sparse)
        if any(isinstance(module, WholeNeuron) for module in self.modules()):  # of a bundle of integers
            return running(self, sparse)
        if weights not in PREPARED:
            deployed = for_inference(self, sparse, weights)
            deployed.fast = Fast(graphs_only=self.fast is None)
            return deployed
        if weights == "auto" and sparse != "auto":
            raise UserError(
                f"for_inference(sparse={sparse!r}, weights='auto'): that is chosen too, so use sparse='auto'"
            )
        deployed = copy.deepcopy(self).eval().requires_grad_(False)
        deployed.fast = None
        deployed.prepare = partial(_in_integers, sparse=sparse) if weights == "int8" else partial(chosen, within=within)
        if batch is not None:
            deployed._prepared(batch)
        return deployed

    def _prepared(self, images: Tensor) -> None:
        """Become what ``prepare`` makes of this network, unless someone looks at its layers now."""
        if self.prepare is None or any(map(watched, self.modules())):
            return
        prepare, self.prepare = self.prepare, None
        for name, child in prepare(self, images).named_children():
            setattr(self, name, child)

    def forward(self, images: Tensor, per_step: bool = False, per_head: bool = False) -> Tensor:
        """Logits ``(B, classes)``, the mean over time; ``per_step``: ``(T, B, classes)``, one for each timestep.

        ``per_head``: with the classifiers in front (``heads``), else their mean.
        """
        self._prepared(images)
        run = self.heads if per_head else self.steps
        steps = run(images) if self.fast is None else self.fast(self, run, images)
        return steps if per_step else steps.mean(-3)

    def steps(self, images: Tensor) -> Tensor:
        """Logits after every timestep, ``(T, B, classes)``."""
        with packed_spikes():
            return self.classify(self.stream(images))

    def heads(self, images: Tensor) -> Tensor:
        """Each classifier's logits, ``(classifiers, T, B, classes)``; a family may have several."""
        return self.steps(images).unsqueeze(0)

    def stream(self, images: Tensor) -> Tensor:
        """What the classifier reads, ``(T, B, D, H, W)``."""
        if images.dim() == 4:
            x = images.unsqueeze(0)
        elif images.dim() == 5 and images.shape[1] == self.timesteps:
            x = images.transpose(0, 1)
        else:
            raise UserError(
                f"input of shape {tuple(images.shape)}: this model takes (B, C, H, W) images or"
                f" (B, {self.timesteps}, C, H, W) event frames"
            )
        if x.device.type in ("cpu", "cuda"):  # convolutions are faster on channels-last frames, and so are our kernels
            x = over_frames(x, lambda frames: frames.contiguous(memory_format=torch.channels_last))
        again = self.checkpoint_blocks and self.training and torch.is_grad_enabled()
        for embedding, blocks in self.sections():
            x = embedding(x, self.timesteps)
            for block in blocks:
                x = recomputed(block, x, self.random) if again else block(x)
        return gradient_alike(x)


def _in_integers(model: nn.Module, images: Tensor, sparse: bool | str) -> nn.Module:
    return running(in_whole_numbers(model, images, INTEGER_BITS), sparse)


def taken(factory: Callable[..., Any], **settings: Any) -> dict[str, Any]:
    """Those of ``settings`` that a component takes: what only some have a use for."""
    parameters = inspect.signature(factory).parameters
    every = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {key: value for key, value in settings.items() if every or key in parameters}


def flag(key: str, value: Any) -> None:
    """Raises UserError for what is neither true nor false."""
    if not isinstance(value, bool):
        raise UserError(f"model.{key} is {value!r}: use true or false")


def whole(key: str, *values: Any) -> None:
    """Raises UserError unless all are whole numbers."""
    for value in values:
        if not isinstance(value, int):
            raise UserError(f"model.{key} is {value!r}: it must be a whole number")
