"""The Spike-driven Transformer (Yao et al., NeurIPS 2023, arXiv 2307.01694)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.attentions import SDSA1
from spikefront.nn.blocks import MLP, Block
from spikefront.nn.embeddings import SPS, pooling_stages, side_of
from spikefront.nn.layers import over_tokens
from spikefront.nn.network import GROUPS, ModuleFactory, SpikingNetwork, taken, whole
from spikefront.nn.residuals import MembraneResidual


class SpikeDrivenTransformer(SpikingNetwork):
    """Spike-driven Transformer for static images ``(B, C, H, W)`` or event frames ``(B, T, C, H, W)``.

    Input and the settings in ``network`` as ``SpikingNetwork`` has them.

    Args:
        depth, dim: number of blocks and channel width D.
        pooling: which of the embedding's four stages halve the image, as ``"0011"``.
        attention, embedding, residual, mlp: factories; a Hydra config with ``_partial_: true`` is one.
        drop_path: stochastic depth of the last block, growing linearly from 0 (published: 0).
        sparse: on the CPU in float32, train by additions where spikes are few instead of dense products.

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
        image_size: int = 224,
        pooling: str | int = "1111",
        attention: ModuleFactory = SDSA1,
        embedding: Callable[..., Any] = SPS,
        residual: ModuleFactory = MembraneResidual,
        mlp: ModuleFactory = MLP,
        drop_path: float = 0.0,
        sparse: bool = False,
        **network: Any,
    ) -> None:
        super().__init__(drop_path=drop_path, **network)
        _check(depth, dim, num_heads, image_size, pooling)
        self.depth, self.dim, of = depth, dim, self.neuron_of
        self.patch_embed = embedding(
            in_channels=self.in_channels, dim=dim, pooling=pooling, neuron=of["embedding"], residual=residual
        )
        side = side_of(self.patch_embed, image_size, pooling)
        self.block = nn.ModuleList()
        for i in range(depth):
            after_attention, after_mlp = (residual(of[g], **taken(residual, dim=dim)) for g in GROUPS[1:3])
            attn = attention(
                dim=dim,
                num_heads=num_heads,
                neuron=of["attention"],
                event_mode=self.event_mode,
                potentials=after_attention.potentials,
                **taken(attention, side=side),
            )
            mixer = mlp(dim=dim, hidden=int(dim * mlp_ratio), neuron=of["mlp"], residual=after_mlp)
            self.block.append(Block(attn, after_attention, mixer, drop_path * i / max(depth - 1, 1)))
        self.head_lif = of["head"]()
        self.head = nn.Linear(dim, self.num_classes)
        self.finish(sparse)

    def sections(self) -> Iterable[tuple[nn.Module, Iterable[nn.Module]]]:
        return [(self.patch_embed, self.block)]

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.head_lif(over_tokens(x)))

    @staticmethod
    def group_matcher(coarse: bool = False) -> dict[str, Any]:
        """Which parameters are of which layer, as timm's models say it; the head is what remains."""
        return {"stem": r"^patch_embed", "blocks": r"^block\.(\d+)"}


def _check(depth: int, dim: int, heads: int, size: int, pooling: str | int) -> None:
    for key, value in {"depth": depth, "dim": dim, "num_heads": heads, "image_size": size}.items():
        whole(key, value)
    if depth < 1 or dim < 1 or heads < 1:
        raise UserError(f"model.depth={depth}, model.dim={dim}, model.num_heads={heads}: each must be at least 1")
    if dim % heads:
        raise UserError(f"model.dim is {dim}: not divisible by model.num_heads={heads}")
    factor = 2 ** sum(pooling_stages(pooling))
    if size < factor:
        raise UserError(
            f"image side {size}: model.pooling={pooling} divides it by {factor}, which leaves nothing;"
            " pool in fewer stages or use larger images"
        )
