"""Of which model a file is, by the names and the sizes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from spikefront.config import CONF
from spikefront.nn.families.layouts import LAYOUTS
from spikefront.nn.families.names import Layout

STAGED, SDT = r"(stages|head|head_kd|head_lif)\..+", r"(patch_embed|block|head|head_lif)\..+"
BLOCK = re.compile(r"(stages\.\d+\.)?block\.\d+\.")
OF_SDT = "talking_heads"  # which does nothing there, and that no other family's files have
CLASSIFIERS = ("head", "head_kd", "classifier")  # theirs too


def recognised(state: Mapping[str, Tensor]) -> str | None:
    """The model whose published or own names a file has: one of ``conf/model`` where its size is known, else in words.

    Args:
        state: its tensors, without wrappers' prefixes.
    """
    body = [key for key in state if key.partition(".")[0] not in CLASSIFIERS]
    dim = next((state[f"{c}.weight"].shape[-1] for c in CLASSIFIERS if f"{c}.weight" in state), None)
    own = len({found[0] for key in body if (found := BLOCK.match(key))})
    if own and all(re.fullmatch(STAGED, key) for key in body):
        return f"a staged network of this package with {own} blocks and width {dim}"
    sdt = bool(own) and all(re.fullmatch(SDT, key) for key in body)
    published = max((whole for layout in LAYOUTS if body and (whole := _read(layout, body))), default=None)
    if sdt and (published is None or any(OF_SDT in key for key in body)):
        return f"sdt_{own}_{dim}"
    if published is None:
        return None
    _, name, blocks = published
    family = name.partition(" ")[0]
    sizes = sorted(p.stem for p in (CONF / "model").glob(f"{family}_*.yaml"))
    wide = [size for size in sizes if size.endswith(f"_{dim}")]
    exact = f"{family}_{blocks}_{dim}"
    if exact in sizes or len(wide) == 1:
        return exact if exact in sizes else wide[0]
    return f"{family} with {blocks} blocks and width {dim} ({', '.join(sizes)})"


def _read(layout: Layout, names: Iterable[str]) -> tuple[int, str, int] | None:
    """How many rules of a layout these names take, its own name, and how many blocks they make; None if one has no
    rule."""
    used, blocks = set(), set()
    rules = [(_reversed(theirs), ours) for ours, theirs in layout.rules]
    for name in names:
        if re.fullmatch(layout.unused, name):
            continue
        found = next(((i, m, ours) for i, (p, ours) in enumerate(rules) if (m := p.match(name))), None)
        if found is None:
            return None
        used.add(found[0])
        if place := re.match(r"stages\.(.+?)\.block\.(.+?)\.", found[2]):
            blocks.add(tuple(_number(part, found[1].groupdict()) for part in place.groups()))
    return len(used), layout.name, len(blocks)


def _reversed(theirs: str) -> re.Pattern[str]:
    """A pattern of what a rule makes; a group's name ends with 1 where it counts from 1."""
    text = re.sub(r"\\\{(\w+)(\\\+1)?\\\}", lambda m: rf"\{{{m[1]}{'1' if m[2] else ''}\}}", re.escape(theirs))
    seen: set[str] = set()

    def group(m: re.Match[str]) -> str:
        if m[1] in seen:
            return f"(?P={m[1]})"
        seen.add(m[1])
        return rf"(?P<{m[1]}>[a-z_]+|\d+)"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, text) + r"(?=\.|$)")


def _number(part: str, groups: Mapping[str, str]) -> int:
    """A stage's or a block's place, from a rule's ``{s}`` or as it stands there; the first where theirs have one."""
    name = part.strip("{}")
    if part == name:
        return int(part)
    return int(groups[name]) if name in groups else int(groups.get(f"{name}1", 1)) - 1
