"""A network of stages: an embedding, then blocks that mix tokens and channels. Today's families are such networks.

Spikformer (arXiv 2209.15425) and Spikingformer (2304.11954) have one stage; QKFormer (2403.16552), Meta-SpikeFormer
(2404.03663), SpikingResformer (2403.14302), E-SpikeFormer (2411.16061) and Max-Former (2505.18608) several. What a
family is stands in ``conf/model``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.blocks import MLP, Block
from spikefront.nn.embeddings import side_of
from spikefront.nn.kernels import packed_spikes
from spikefront.nn.layers import NeuronFactory, over_tokens
from spikefront.nn.network import ModuleFactory, SpikingNetwork, taken, whole
from spikefront.nn.residuals import MembraneResidual

KEYS = {"embedding", "mixer", "local", "mlp", "depth", "dim", "share", "heads", "head_dim", "mlp_ratio"}
KEYS |= {"residual", "mixer_residual"}  # of a stage


class Stage(nn.Module):
    """An embedding and the blocks after it."""

    def __init__(self, patch_embed: nn.Module, block: Iterable[nn.Module]) -> None:
        super().__init__()
        self.patch_embed, self.block = patch_embed, nn.ModuleList(block)


class StagedTransformer(SpikingNetwork):
    """Stages in the order of their names, then a classifier; input and ``network`` as ``SpikingNetwork`` has them.

    Args:
        dim: D, of which the stages' widths are shares.
        stages: by name a mapping of ``embedding``, ``mixer`` (an attention or what stands in its place), ``local`` (a
            mixer before it, or None) and ``mlp``, all factories; ``depth``, how many blocks; ``dim``, the width, or
            ``share`` of D; ``heads``, or ``head_dim``, the least width of one; ``mlp_ratio``; ``residual`` of its
            blocks and ``mixer_residual`` of their mixers, where they are not the network's. None leaves a stage out.
        pooling: for embeddings that go by it.
        head_reads: ``spikes`` of a neuron on the mean over tokens, or that mean's ``potentials``.
        head_bias: whether the classifier has one.
        second_head: what a second classifier, for distillation, reads: ``spikes``, or None for none. The network's
            logits are the mean of both; ``heads`` gives each.

    Raises:
        UserError: sizes that don't fit together.
    """

    def __init__(
        self,
        stages: Mapping[str, Mapping[str, Any] | None],
        *,
        dim: int = 384,
        image_size: int = 224,
        pooling: str | int = "1111",
        residual: ModuleFactory = MembraneResidual,
        head_reads: str = "spikes",
        head_bias: bool = True,
        second_head: str | None = None,
        drop_path: float = 0.0,
        sparse: bool = False,
        **network: Any,
    ) -> None:
        super().__init__(drop_path=drop_path, **network)
        whole("dim", dim)
        whole("image_size", image_size)
        for key, value, known in (
            ("head_reads", head_reads, ("spikes", "potentials")),
            ("second_head", second_head, (None, "spikes")),
        ):
            if value not in known:
                raise UserError(f"model.{key} is {value!r}: use {' or '.join(map(str, known))}")
        used = [(name, stage) for name, stage in sorted(stages.items()) if stage is not None]
        if not used:
            raise UserError("model.stages is empty: a network needs at least one stage")
        self.depth = sum(stage.get("depth", 1) for _, stage in used)
        self.dim = dim
        self.stages = nn.ModuleList()
        width, side, before = self.in_channels, image_size, 0
        for i, (name, stage) in enumerate(used):
            made = _Plan(name, stage, dim, residual, self.neuron_of, self.event_mode, i > 0)
            embedding = made.embedding(width, pooling)
            width, side = made.dim, side_of(embedding, side, pooling)
            rates = [drop_path * (before + j) / max(self.depth - 1, 1) for j in range(made.depth)]
            self.stages.append(Stage(embedding, [made.block(side, rate) for rate in rates]))
            before += made.depth
        self.head_reads, self.second_head = head_reads, second_head
        fires = "spikes" in (head_reads, second_head)
        self.head_lif = self.neuron_of["head"]() if fires else nn.Identity()
        self.head = nn.Linear(width, self.num_classes, bias=head_bias)
        if second_head is not None:
            self.head_kd = nn.Linear(width, self.num_classes, bias=head_bias)
        self.finish(sparse)

    def sections(self) -> Iterable[tuple[nn.Module, Iterable[nn.Module]]]:
        return [(stage.patch_embed, stage.block) for stage in self.stages]  # type: ignore[misc]

    def classify(self, x: Tensor) -> Tensor:
        logits = self._logits(x)
        return logits[0] if len(logits) == 1 else torch.stack(logits).mean(0)

    def heads(self, images: Tensor) -> Tensor:
        """Each classifier's logits, ``(classifiers, T, B, classes)``."""
        with packed_spikes():
            return torch.stack(self._logits(self.stream(images)))

    def _logits(self, x: Tensor) -> list[Tensor]:
        pooled = over_tokens(x)
        spikes = self.head_lif(pooled)
        first = self.head(spikes if self.head_reads == "spikes" else pooled)
        return [first] if self.second_head is None else [first, self.head_kd(spikes)]

    @staticmethod
    def group_matcher(coarse: bool = False) -> dict[str, Any]:
        """Which parameters are of which layer, as timm's models say it; the head is what remains."""
        blocks = [(r"^stages\.(\d+)\.patch_embed", (-1,)), (r"^stages\.(\d+)\.block\.(\d+)", None)]
        return {"stem": r"^stages\.0\.patch_embed", "blocks": r"^stages\.(\d+)" if coarse else blocks}


class _Plan:
    """What a stage's settings say, checked, and how its parts are made."""

    def __init__(
        self,
        name: str,
        stage: Mapping[str, Any],
        dim: int,
        residual: ModuleFactory,
        neurons: Mapping[str, NeuronFactory],
        event_mode: bool,
        stream: bool,
    ) -> None:
        where = f"model.stages.{name}"
        if unknown := sorted(set(stage) - KEYS):
            raise UserError(f"{where} has {unknown[0]!r}: its keys are {', '.join(sorted(KEYS))}")
        self.where, self.stage, self.event_mode, self.stream = where, stage, event_mode, stream
        self.outer, self.residual, self.neurons = residual, stage.get("residual") or residual, neurons
        self.depth = stage.get("depth", 1)
        width: Any = stage.get("dim") if stage.get("dim") is not None else dim * stage.get("share", 1)
        if width != int(width):
            raise UserError(f"{where}.share is {stage['share']}: that share of model.dim={dim} is not whole channels")
        self.dim = int(width)
        heads, head_dim = stage.get("heads"), stage.get("head_dim") or 64
        most = range(max(1, self.dim // head_dim), 0, -1)
        self.heads = heads if heads is not None else next(n for n in most if self.dim % n == 0)
        for key, value, least in (("depth", self.depth, 1), ("dim", self.dim, 1), ("heads", self.heads, 1)):
            if not isinstance(value, int) or value < least:
                raise UserError(f"{where}.{key} is {value!r}: it must be a whole number, at least {least}")
        if self.dim % self.heads:
            raise UserError(f"{where}: its width {self.dim} is not divisible by its {self.heads} heads")

    def embedding(self, in_channels: int, pooling: str | int) -> Any:
        factory = self.stage["embedding"]
        settings = {"pooling": pooling, "neuron": self.neurons["embedding"], "residual": self.outer}
        if self.stream:
            settings |= (stream := taken(factory, stream=True))
            if not stream:
                raise UserError(f"{self.where}.embedding reads images, and so can only begin the first stage")
        return factory(in_channels=in_channels, dim=self.dim, **settings)

    def block(self, side: int, drop_path: float) -> Block:
        beside_mixer = self.stage.get("mixer_residual") or self.residual
        after_attention = self._shortcut(beside_mixer, "attention")
        after_mlp = self._shortcut(self.residual, "mlp")
        settings = {
            "dim": self.dim,
            "num_heads": self.heads,
            "neuron": self.neurons["attention"],
            "event_mode": self.event_mode,
            "potentials": after_attention.potentials,
        }
        local = None
        if self.stage.get("local") is not None:
            mixer = self.stage["local"](**settings, **taken(self.stage["local"], side=side))
            shortcut = self.outer if getattr(mixer, "unscaled", False) else self.residual
            local = mixer, self._shortcut(shortcut, "attention")
        make = self.stage.get("mlp") or MLP
        mlp = make(
            dim=self.dim,
            hidden=int(self.dim * self.stage.get("mlp_ratio", 4.0)),
            neuron=self.neurons["mlp"],
            residual=after_mlp,
        )
        mixer = self.stage["mixer"](**settings, **taken(self.stage["mixer"], side=side))
        return Block(mixer, after_attention, mlp, drop_path, local)

    def _shortcut(self, residual: ModuleFactory, group: str) -> Any:
        return residual(self.neurons[group], **taken(residual, dim=self.dim))
