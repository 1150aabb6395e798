"""The Spike-driven Transformer (Yao et al., NeurIPS 2023, arXiv 2307.01694)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.attentions import SDSA1, SelfAttention
from spikefront.nn.embeddings import SPS, pooling_stages
from spikefront.nn.graphs import Fast
from spikefront.nn.inference import for_inference
from spikefront.nn.kernels import packed_spikes
from spikefront.nn.layers import NeuronFactory, branch_onto, conv_bn, conv_bn_fire, over_frames, reads
from spikefront.nn.neurons import LIF
from spikefront.nn.recompute import recomputed
from spikefront.nn.residuals import MembraneResidual
from spikefront.nn.sparse_conv import add_sparsely
from spikefront.nn.torch_internals import watched

GROUPS = ("embedding", "attention", "mlp", "head")


ModuleFactory = Callable[..., nn.Module]


class MLP(nn.Module):
    """``BN(fc2(LIF(BN(fc1(LIF(x))))))`` as 1x1 convolutions (arXiv 2307.01694, eq. 10).

    With ratio 1, on a stream of potentials, the published code adds ``x`` to fc1's output before fc2's neuron and adds
    fc2's output to that sum. ``forward``: ``x`` -> the new ``x``, both ``(T, B, D, H, W)``; ``drop`` is applied to the
    branches.
    """

    def __init__(self, dim: int, hidden: int, neuron: NeuronFactory, residual: Any) -> None:
        super().__init__()
        self.residual = residual
        self.fc1_lif = reads(neuron, residual.potentials)
        self.fc1_conv = nn.Conv2d(dim, hidden, 1)
        self.fc1_bn = nn.BatchNorm2d(hidden)
        self.fc2_lif = neuron()
        self.fc2_conv = nn.Conv2d(hidden, dim, 1)
        self.fc2_bn = nn.BatchNorm2d(dim)
        self.inner_residual = hidden == dim and residual.potentials

    def forward(self, x: Tensor, drop: nn.Module) -> Tensor:
        spikes = self.fc1_lif(x)
        if self.inner_residual:
            x = branch_onto(partial(conv_bn, spikes, self.fc1_conv, self.fc1_bn), x, self.residual, drop)
            hidden = self.fc2_lif(x)
        else:
            hidden = conv_bn_fire(spikes, self.fc1_conv, self.fc1_bn, self.fc2_lif)
        return branch_onto(partial(conv_bn, hidden, self.fc2_conv, self.fc2_bn), x, self.residual, drop)

    def folds(self) -> list[tuple[str, str]]:
        return [("fc1_conv", "fc1_bn"), ("fc2_conv", "fc2_bn")]

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        return [(self.fc1_lif, [self.fc1_conv]), (self.fc2_lif, [self.fc2_conv])]


class Block(nn.Module):
    """Attention and MLP, each with a shortcut (arXiv 2307.01694, eq. 8-10)."""

    def __init__(self, attn: nn.Module, residual: nn.Module, mlp: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.attn, self.residual, self.mlp = attn, residual, mlp
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.attn, SelfAttention) and not watched(self.attn):
            x = branch_onto(partial(self.attn, x), x, self.residual, self.drop_path)
        else:
            x = self.residual(x, self.drop_path(self.attn(x)))
        return self.mlp(x, self.drop_path)


class DropPath(nn.Module):
    """Drops a sample's residual branch over all timesteps at once (stochastic depth, arXiv 1603.09382, section 3)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.empty(1, x.shape[1], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)


class SpikeDrivenTransformer(nn.Module):
    """Spike-driven Transformer for static images ``(B, C, H, W)`` or event frames ``(B, T, C, H, W)``.

    Args:
        depth, dim: number of blocks and channel width D.
        timesteps: T. A static image is shown T times; an event sample must have T frames.
        pooling: which of the embedding's four stages halve the image, as ``"0011"``.
        event_mode: the published pooling inside the attention for event cameras.
        neuron, attention, embedding, residual: factories; a Hydra config with ``_partial_: true`` is one.
        neurons: keyword overrides of the neuron per group, ``{"mlp": {"threshold": 0.8}}``; None overrides nothing.
        drop_path: stochastic depth of the last block, growing linearly from 0 (published: 0).
        sparse: on the CPU in float32, train by additions where spikes are few instead of dense products.
        compile: steps as CUDA graphs on a GPU, through ``torch.compile`` on the CPU (see ``graphs``).
        checkpoint_blocks: keep only the blocks' inputs for the backward pass and run them again in it.

    Raises:
        UserError: sizes that don't fit together.
    """

    def __init__(
        self,
        depth: int,
        dim: int,
        *,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        timesteps: int = 4,
        in_channels: int = 3,
        num_classes: int = 1000,
        image_size: int = 224,
        pooling: str | int = "1111",
        event_mode: bool = False,
        neuron: NeuronFactory = LIF,
        attention: ModuleFactory = SDSA1,
        embedding: ModuleFactory = SPS,
        residual: ModuleFactory = MembraneResidual,
        neurons: Mapping[str, Mapping[str, Any]] | None = None,
        drop_path: float = 0.0,
        sparse: bool = False,
        compile: bool = False,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        if compile and checkpoint_blocks and drop_path:
            raise UserError(
                "model.compile, model.checkpoint_blocks and model.drop_path: a graph can't draw the same random"
                " numbers twice; leave one of them out"
            )
        self.fast = Fast() if compile else None
        self.checkpoint_blocks, self.random = checkpoint_blocks, drop_path > 0
        _check(depth, dim, num_heads, timesteps, image_size, pooling, neurons or {})
        self.depth, self.dim, self.timesteps, self.num_classes = depth, dim, timesteps, num_classes
        self.in_channels, self.event_mode = in_channels, event_mode
        settings = {g: {k: v for k, v in (o or {}).items() if v is not None} for g, o in (neurons or {}).items()}
        of = {group: partial(neuron, **settings.get(group, {})) for group in GROUPS}
        self.patch_embed = embedding(
            in_channels=in_channels, dim=dim, pooling=pooling, neuron=of["embedding"], residual=residual
        )
        self.block = nn.ModuleList()
        for i in range(depth):
            after_attention, after_mlp = residual(of["attention"]), residual(of["mlp"])
            attn = attention(
                dim=dim,
                num_heads=num_heads,
                neuron=of["attention"],
                event_mode=event_mode,
                potentials=after_attention.potentials,
            )
            mlp = MLP(dim, int(dim * mlp_ratio), of["mlp"], after_mlp)
            self.block.append(Block(attn, after_attention, mlp, drop_path * i / max(depth - 1, 1)))
        self.head_lif = of["head"]()
        self.head = nn.Linear(dim, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02) if isinstance(module, nn.Linear) else None
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if sparse:
            add_sparsely(self, True)

    def for_inference(self, sparse: bool | str = False) -> SpikeDrivenTransformer:
        """A faster copy with equal outputs, for inference only: norms folded, projections joined, graphs on a GPU.

        ``sparse``: ``True`` adds only where a spike is, ``"auto"`` in those layers where that is faster (CPU).
        """
        deployed = for_inference(self, sparse)
        deployed.fast = Fast(graphs_only=self.fast is None)
        return deployed

    @staticmethod
    def group_matcher(coarse: bool = False) -> dict[str, Any]:
        """Which parameters are of which layer, as timm's models say it; the head is what remains."""
        return {"stem": r"^patch_embed", "blocks": r"^block\.(\d+)"}

    def forward(self, images: Tensor, per_step: bool = False) -> Tensor:
        """Logits ``(B, classes)``, the mean over time; ``per_step``: ``(T, B, classes)``, one for each timestep."""
        steps = self.steps(images) if self.fast is None else self.fast(self, self.steps, images)
        return steps if per_step else steps.mean(0)

    def steps(self, images: Tensor) -> Tensor:
        """Logits after every timestep, ``(T, B, classes)``."""
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
        with packed_spikes():
            x = self.patch_embed(x, self.timesteps)
            for block in self.block:
                x = recomputed(block, x, self.random) if again else block(x)
            return self.head(self.head_lif(x.mean(dim=(3, 4))))


def _check(
    depth: int, dim: int, heads: int, timesteps: int, size: int, pooling: str | int, neurons: Mapping[str, Any]
) -> None:
    for key, value in {
        "depth": depth,
        "dim": dim,
        "num_heads": heads,
        "timesteps": timesteps,
        "image_size": size,
    }.items():
        if not isinstance(value, int):
            raise UserError(f"model.{key} is {value!r}: it must be a whole number")
    if depth < 1 or dim < 1 or heads < 1:
        raise UserError(f"model.depth={depth}, model.dim={dim}, model.num_heads={heads}: each must be at least 1")
    if dim % heads:
        raise UserError(f"model.dim is {dim}: not divisible by model.num_heads={heads}")
    if timesteps < 1:
        raise UserError(f"model.timesteps is {timesteps}: a spiking network needs at least 1 timestep")
    factor = 2 ** sum(pooling_stages(pooling))
    if size < factor:
        raise UserError(
            f"image side {size}: model.pooling={pooling} divides it by {factor}, which leaves nothing;"
            " pool in fewer stages or use larger images"
        )
    if unknown := set(neurons) - set(GROUPS):
        raise UserError(f"model.neurons has {', '.join(sorted(unknown))}: the groups are {', '.join(GROUPS)}")
