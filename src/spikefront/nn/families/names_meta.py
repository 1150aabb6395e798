"""The names of Spike-driven Transformers V2 and V3, and of SpikingResformer."""

from __future__ import annotations

from spikefront.nn.families.names import ATTN, HEAD, MLP, PATCH, STREAM, Layout, at, parts


def _meta(lif: str, convs: list[tuple[str, str]], rest: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Spike-driven Transformers V2 and V3: the stages' own names; ``convs``: of a convolutional block ``{c}``."""
    names = ("downsample1_1", "downsample1_2", "downsample2", "downsample3", "downsample4")
    patches = [
        rule
        for s, name in enumerate(names)
        for rule in at(s, [*parts("0", f"{name}.encode_*"), (f"{PATCH}first_lif", f"{name}.encode_{lif}")])
    ]
    blocks = {0: "ConvBlock1_1.0", 1: "ConvBlock1_2.0", 2: "ConvBlock2_{b+1}.0"}
    conv_blocks = [
        (ours.replace("{s}", str(s)), theirs.replace("{c}", block))
        for s, block in blocks.items()
        for ours, theirs in convs
    ]
    return (
        *patches,
        *conv_blocks,
        ("stages.{s}.block.{b}.residual.scale", "block{s}.{b}.layer_scale2"),
        ("stages.{s}.block.{b}.local_residual.scale", "block{s}.{b}.layer_scale1"),
        ("stages.{s}.block.{b}.mlp.residual.scale", "block{s}.{b}.layer_scale3"),
        *((ours, theirs.replace("block{s+1}", "block{s}")) for ours, theirs in rest),
        ("head_lif", "spike" if lif == "spike" else "lif"),
        *HEAD,
    )


def _metaattention(lif: str, chain: list[tuple[str, str]]) -> list[tuple[str, str]]:
    block = "block{s}.{b}"
    return [
        (f"{ATTN}shortcut_lif", f"{block}.attn.head_{lif}"),
        (f"{ATTN}talking_heads_lif", f"{block}.attn.attn_{lif}"),
        *((f"{ATTN}{STREAM}_conv{ours}", f"{block}.attn.{{q}}_conv.0{theirs}") for ours, theirs in chain),
        (f"{ATTN}{STREAM}_bn", f"{block}.attn.{{q}}_conv.1"),
        (f"{ATTN}{STREAM}_lif", f"{block}.attn.{{q}}_{lif}"),
        (f"{MLP}fc{{i}}_lif", f"{block}.mlp.fc{{i}}_{lif}"),
        (f"{MLP}fc{{i}}_{{p:conv|bn}}", f"{block}.mlp.fc{{i}}_{{p}}"),
    ]


def _convmlp(lif: str) -> list[tuple[str, str]]:
    return [
        (f"{MLP}fc{{i}}_lif", f"{{c}}.{lif}{{i}}"),
        (f"{MLP}fc{{i}}_{{p:conv|bn}}", "{c}.{p}{i}"),
    ]


def _separable(ours: str, theirs: str) -> list[tuple[str, str]]:
    return [
        (f"{ours}lif{{i}}", f"{theirs}.spike{{i}}"),
        (f"{ours}pwconv{{i}}", f"{theirs}.pwconv{{i}}.0"),
        (f"{ours}bn{{i}}", f"{theirs}.pwconv{{i}}.1"),
        (f"{ours}dwconv", f"{theirs}.dwconv.0"),
        (f"{ours}dwbn", f"{theirs}.dwconv.1"),
    ]


def _resformer() -> tuple[tuple[str, str], ...]:
    def blocks(dssa: str, mlp: str) -> list[tuple[str, str]]:
        attention = {
            "lif": "activation_in",
            "attn_lif": "activation_attn",
            "out_lif": "activation_out",
            "conv": "W",
            "bn": "norm.bn",
            "op.rate_x": "firing_rate_x",
            "op.rate_attn": "firing_rate_attn",
            "proj_conv": "Wproj",
            "proj_bn": "norm_proj.bn",
        }
        parts = {
            **{f"{p}_{kind}": f"{p}.{i}" for p in ("up", "down") for i, kind in ((0, "lif"), (1, "conv"), (2, "bn"))},
            "conv_lif": "conv.0.0",
            "conv": "conv.0.1",
            "bn": "conv.0.2",
        }
        return [
            *((ATTN + ours, f"layers.{{s}}.{dssa}.{theirs}") for ours, theirs in attention.items()),
            *(
                (MLP + ours, f"layers.{{s}}.{mlp}.{theirs}" + (".bn" if ours.endswith("bn") else ""))
                for ours, theirs in parts.items()
            ),
        ]

    stem = [(f"{PATCH}convs.0", "prologue.0"), (f"{PATCH}bns.0", "prologue.1.bn")]
    down = [
        (f"{PATCH}convs.0", "layers.{s}.0.conv"),
        (f"{PATCH}bns.0", "layers.{s}.0.norm.bn"),
        (f"{PATCH}first_lif", "layers.{s}.0.activation"),
    ]
    first = [
        (ours.replace("{s}", "0").replace("{b}", str(b)), theirs.replace("{s}", "0"))
        for b in range(8)
        for ours, theirs in blocks(str(2 * b), str(2 * b + 1))
    ]
    later = [
        (ours.replace("{b}", str(b)), theirs)
        for b in range(16)
        for ours, theirs in blocks(str(2 * b + 1), str(2 * b + 2))
    ]
    return (*at(0, stem), *down, *first, *later, ("head", "classifier"))


REP = [(".conv1", ".body.0"), (".bn1", ".body.1.bn"), (".dwconv", ".body.2.0")]
REP += [(".conv2", ".body.2.1"), (".bn2", ".body.2.2")]
CHAIN = [(".conv{i}", ".conv{i}.0"), (".bn{i}", ".conv{i}.1")]
META = (
    Layout(
        "metaspikformer",
        _meta(
            "lif",
            [
                (f"{ATTN}lif{{i}}", "{c}.Conv.lif{i}"),
                (f"{ATTN}{{p:pwconv|bn}}{{i}}", "{c}.Conv.{p}{i}"),
                (f"{ATTN}dwconv", "{c}.Conv.dwconv"),
                *_convmlp("lif"),
            ],
            _metaattention("lif", REP),
        ),
    ),
    Layout(
        "e_spikeformer",
        _meta(
            "spike",
            [*_separable(ATTN, "{c}.Conv"), *_convmlp("spike")],
            [
                *_separable("stages.{s}.block.{b}.local.", "block{s}.{b}.conv"),
                *_metaattention("spike", [("", "")]),
            ],
        ),
    ),
    Layout(
        "e_spikeformer large",
        (
            ("stages.{s}.block.{b}.residual.scale", "block{s}.{b}.layer_scale1"),
            ("stages.{s}.block.{b}.mlp.residual.scale", "block{s}.{b}.layer_scale2"),
            *_meta(
                "lif",
                [
                    (f"{MLP}fc{{i}}_lif", "{c}.neuron{i}"),
                    (f"{MLP}fc{{i}}_conv", "{c}.conv{i}.0.0"),
                    (f"{MLP}fc{{i}}_bn", "{c}.conv{i}.0.1"),
                ],
                [
                    ("stages.{s}.block.{b}.local.lif", "block{s}.{b}.lif"),
                    *((f"stages.{{s}}.block.{{b}}.local.rep{a}", f"block{{s}}.{{b}}.rep_conv{b}") for a, b in CHAIN),
                    *_metaattention("lif", CHAIN),
                ],
            ),
        ),
    ),
    Layout("spikingresformer", _resformer()),
)
