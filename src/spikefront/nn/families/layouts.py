"""All published layouts: those of Spikformer's line here, the others' in ``names_meta``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from spikefront.nn.families.names import ATTN, HEAD, PATCH, Layout, at, attention, mlp, mlp_of_spikes, parts
from spikefront.nn.families.names_meta import META


def translated(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """``state`` under the names of a network's ``own`` state if a published layout knows it, else as it is."""
    return next((found for layout in LAYOUTS if (found := layout.ours(own, state)) is not None), state)


def names(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], like: Callable[[Tensor, Tensor], bool]
) -> dict[str, str]:
    """What a published layout that knows ``state`` calls a network's ``own`` tensors; none if there is none.

    Args:
        like: which of their tensors stands for which of ours, ``(theirs, ours)``.
    """
    return next((found for layout in LAYOUTS if (found := layout.names(own, state, like)) is not None), {})


def _maxformer(stem: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    later = [
        (f"{PATCH}first_lif", "patch_embed{s+1}.max_embed1.embed_lif"),
        *parts("0", "patch_embed{s+1}.max_embed1.embed_*", "patch_embed{s+1}.embed1.embed_lif"),
        *parts("1", "patch_embed{s+1}.embed1.embed_*"),
        *parts("short", "patch_embed{s+1}.max_embed2.embed_*"),
    ]
    block = "stage{s+1}.{b}"
    return (
        *at(0, stem),
        *later,
        (f"{ATTN}conv", f"{block}.mixer.conv"),
        (f"{ATTN}bn", f"{block}.mixer.conv_bn"),
        (f"{ATTN}lif", f"{block}.mixer.conv_neuron"),
        *attention(f"{block}.attn", "x_lif"),
        *mlp(f"{block}.mlp"),
        *HEAD,
    )


def _qkformer(stem: list[tuple[str, str]], last: int, ssa: str, fc: str, second: str) -> tuple[tuple[str, str], ...]:
    later = [
        *parts("0", f"patch_embed{{s+1}}.{second}_*"),
        *parts("1", "patch_embed{s+1}.proj4_*"),
        *parts("short", "patch_embed{s+1}.proj_res_*"),
    ]
    block = "stage{s+1}.{b}"
    return (
        *at(0, [*stem, *parts("short", "patch_embed1.proj_res_*")]),
        *later,
        *at(last, attention(f"{block}.{ssa}", "x_lif")),
        *attention(f"{block}.tssa", "x_lif"),
        *mlp_of_spikes(f"{block}.mlp", fc),
        *HEAD,
    )


def _ms_qkformer() -> tuple[tuple[str, str], ...]:
    first, later = "patch_embed1.", "patch_embed{s+1}."
    stem = [
        *parts("0", f"{first}proj_*", f"{first}proj_lif1"),
        (f"{PATCH}convs.{{i}}", f"{first}proj_conv{{i}}"),
        (f"{PATCH}bns.{{i}}", f"{first}proj_bn{{i}}"),
        (f"{PATCH}lifs.1", f"{first}proj_lif2"),
        *parts("short", f"{first}rpe_*"),
    ]
    block = "stage{s+1}.{b}"
    return (
        *at(0, stem),
        (f"{PATCH}first_lif", f"{later}init_lif"),
        *parts("0", f"{later}proj3_*"),
        *parts("1", f"{later}proj4_*"),
        *parts("short", f"{later}proj_res_*"),
        *at(2, attention(f"{block}.attn", "x_lif")),
        *attention(f"{block}.attn", "proj_lif"),
        *mlp(f"{block}.mlp"),
        *HEAD,
    )


def _spikformer(conv: str) -> tuple[tuple[str, str], ...]:
    stem = [
        *parts("0", "patch_embed.proj_*"),
        *parts("4", "patch_embed.rpe_*"),
        *((f"{PATCH}{p}s.{{i}}", f"patch_embed.proj_{p}{{i}}") for p in ("conv", "bn", "lif")),
    ]
    return (*stem, *attention("block.{b}.attn", "x_lif", conv), *mlp_of_spikes("block.{b}.mlp", "fc", conv), *HEAD)


def _spikingformer(numbered: str, first: str) -> tuple[tuple[str, str], ...]:
    stem = [
        *((f"{PATCH}{p}s.0", f"patch_embed.{first}_{p}") for p in ("conv", "bn")),
        (f"{PATCH}lifs.{{i}}", f"patch_embed.{numbered}{{i+1}}_lif"),
        *((f"{PATCH}{p}s.{{i}}", f"patch_embed.{numbered}{{i}}_{p}") for p in ("conv", "bn")),
    ]
    return (*stem, *attention("block.{b}.attn", "proj_lif"), *mlp("block.{b}.mlp", "mlp"), *HEAD)


EMBED1 = "patch_embed1."
NORMS = r"block\.\d+\.norm[12]\.(weight|bias)"
LAYOUTS = (
    Layout(
        "maxformer imagenet",
        (
            (f"{ATTN}conv".replace("{s}", "0"), "stage1.{b}.mixer.conv5"),
            (f"{ATTN}bn".replace("{s}", "0"), "stage1.{b}.mixer.conv5_bn"),
            (f"{ATTN}lif".replace("{s}", "0"), "stage1.{b}.mixer.conv5_neuron"),
            *_maxformer(
                [
                    (f"{PATCH}convs.{{i}}", f"{EMBED1}embed{{i+1}}.embed_conv"),
                    (f"{PATCH}bns.{{i}}", f"{EMBED1}embed{{i+1}}.embed_bn"),
                    (f"{PATCH}lifs.0", f"{EMBED1}embed2.embed_lif"),
                    (f"{PATCH}lifs.1", f"{EMBED1}embed3.embed_lif"),
                    *parts("short", f"{EMBED1}embed4.embed_*"),
                ]
            ),
        ),
    ),
    Layout(
        "maxformer cifar",
        _maxformer(
            [
                *parts("0", f"{EMBED1}proj_*", f"{EMBED1}embed1.embed_lif"),
                *parts("1", f"{EMBED1}embed1.embed_*"),
                *parts("short", f"{EMBED1}embed2.embed_*"),
            ]
        ),
    ),
    Layout(
        "maxformer event",
        _maxformer(
            [
                *parts("0", f"{EMBED1}proj_*", f"{EMBED1}max_embed1.embed_lif"),
                (f"{PATCH}lifs.{{i}}", f"{EMBED1}max_embed{{i+1}}.embed_lif"),
                *((f"{PATCH}{p}s.{{i}}", f"{EMBED1}max_embed{{i}}.embed_{p}") for p in ("conv", "bn")),
                *parts("short", f"{EMBED1}embed1.embed_*"),
            ]
        ),
    ),
    Layout("ms_qkformer", _ms_qkformer()),
    *(
        Layout(
            f"qkformer {name}",
            _qkformer(
                [
                    *parts("0", f"{EMBED1}proj_*"),
                    *((f"{PATCH}{p}s.{{i}}", f"{EMBED1}proj{{i}}_{p}") for p in ("conv", "bn", "lif")),
                ],
                last,
                ssa,
                fc,
                second,
            ),
        )
        for name, last, ssa, fc, second in (
            ("imagenet", 2, "attn", "fc", "proj3"),
            ("cifar", 2, "ssa", "mlp", "proj3"),
            ("event", 1, "ssa", "mlp", "proj"),
        )
    ),
    Layout("spikformer", _spikformer("_conv"), rf"{NORMS}|pos_embed|norm\.(weight|bias)"),
    Layout("spikformer cifar", _spikformer("_linear"), NORMS),
    Layout("spikingformer", _spikingformer("proj", "proj"), NORMS),
    Layout("spikingformer cifar", _spikingformer("block", "block0"), NORMS),
    *META,
)
