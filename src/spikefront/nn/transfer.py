"""What of a checkpoint a network begins with: the parts that fit as they are, reshaped, or cut to its size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.checkpoints import fits_instead, misfit
from spikefront.nn.elastic import part, strange
from spikefront.nn.families.layouts import names
from spikefront.nn.families.names import alike
from spikefront.nn.groups import NEURON

HEADS = ("head", "head_kd")
THEIRS = re.compile(r"(head|head_kd|classifier)\.(weight|bias)")
BLOCK = re.compile(r"(stages\.\d+\.)?block\.\d+\.")
SHOWN = 2


@dataclass
class Transfer:
    """A table of what a network begins with, and its state.

    Attributes:
        source: the checkpoint's address.
        state: the network's whole state, with what is ``new`` as it was.
        taken: tensors that are the file's; ``reshaped`` are, in other dimensions; of the ``sliced`` the leading part.
        new: those that keep their own values: another class count's classifier, another kind of neuron's.
        left: the file's that the network has no use for.
    """

    source: str
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)
    taken: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    sliced: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        """What happened and to how many tensors, the first of them named; nothing of what didn't."""
        values = sum(self.state[key].numel() for key in self.taken)
        named = {"reshaped": self.reshaped, "sliced": self.sliced, "new": self.new, "left out": self.left}
        return [
            ("taken", f"{len(self.taken)} tensors, {values:,} values"),
            *((what, f"{len(keys)}: {_named(keys)}") for what, keys in named.items() if keys),
        ]

    def __str__(self) -> str:
        return "\n".join([f"init={self.source}", *(f"  {what:<10}{text}" for what, text in self.rows())])


def transfer(model: nn.Module, state: Mapping[str, Tensor], source: str, slice: bool = False) -> Transfer:
    """What ``model`` begins with of a checkpoint's tensors; it stays as it is until it loads the ``state`` of that.

    T, resolution and pooling are in no tensor. A classifier for other classes begins anew, and so does what one kind of
    neuron has and another hasn't. Everything else must fit: strictly, or with ``slice`` by its leading part, as members
    of an elastic network have it (``nn.elastic``), where blocks that the model hasn't got are left out.

    Args:
        state: by the file's own names, wrappers' prefixes stripped (``checkpoints.stated``).
        source: the checkpoint's address, for the table and for errors.

    Raises:
        UserError: what doesn't fit, and of which model the file is where that is known.
    """
    own = model.state_dict()
    theirs = _names(own, state, slice)
    given = {key: _in_dimensions(state[name], own.get(key)) for key, name in theirs.items()}
    came = Transfer(source, dict(own))
    strangers: dict[str, Tensor] = {}
    for key, tensor in own.items():
        there, classifies = given.get(key), key.partition(".")[0] in HEADS
        if there is None:
            (came.new.append(key) if classifies or NEURON.search(key) else strangers.update({key: tensor}))
        elif tensor.shape == there.shape:
            came.state[key] = there
            came.taken.append(key)
            if (before := state[theirs[key]].shape) != there.shape:
                came.reshaped.append(f"{key} {tuple(there.shape)} from {tuple(before)}")
        elif classifies and tensor.shape[0] != there.shape[0]:
            came.new.append(f"{key} {tuple(tensor.shape)} where the file has {tuple(there.shape)}")
        elif slice and strange({key: tensor}, given) is None:
            came.state[key] = part(key, tensor, given)
            came.sliced.append(f"{key} {tuple(tensor.shape)} of {tuple(there.shape)}")
        else:
            strangers[key] = tensor
    used = {theirs[key] for key in own if key in theirs}
    rest = [key for key in state if key not in used]
    came.left = [key for key in rest if THEIRS.fullmatch(key) or NEURON.search(key) or (slice and BLOCK.match(key))]
    surplus = {key: state[key] for key in rest if key not in came.left} if not _renamed(theirs) else {}
    if strangers or surplus:
        why = misfit(strangers, surplus | {key: given[key] for key in strangers if key in given})
        raise UserError(f"init={source} is of another network: {why}{_cure(model, strangers, surplus, given, state)}")
    return came


def _names(own: Mapping[str, Tensor], state: Mapping[str, Tensor], slice: bool) -> dict[str, str]:
    """The file's by ours, of all that it has: its own, or a published layout's if one knows all but the classifiers."""
    body = {key: tensor for key, tensor in own.items() if key.partition(".")[0] not in HEADS}
    theirs = {key: tensor for key, tensor in state.items() if not THEIRS.fullmatch(key)}
    if not all(key in state or NEURON.search(key) for key in body):
        found = names(body, theirs, _as_large if slice else alike)
        if found:
            return found | {key.replace("classifier.", "head."): key for key in state if THEIRS.fullmatch(key)}
    return {key: key for key in state}


def _renamed(theirs: Mapping[str, str]) -> bool:
    """Whether a published layout knew the file: what that has beside does nothing there."""
    return any(ours != name for ours, name in theirs.items())


def _as_large(theirs: Tensor, ours: Tensor) -> bool:
    large, small = ([n for n in tensor.shape if n != 1] for tensor in (theirs, ours))
    return len(large) == len(small) and all(a >= b for a, b in zip(large, small, strict=True))


def _in_dimensions(theirs: Tensor, ours: Tensor | None) -> Tensor:
    """In the shape of ``ours``, or of another size in as many dimensions: a ``Conv1d`` is a 1x1 ``Conv2d``."""
    if ours is None:
        return theirs
    if alike(theirs, ours):
        return theirs.reshape(ours.shape)
    more = ours.dim() - theirs.dim()
    return theirs.reshape(*theirs.shape, *[1] * more) if more > 0 else theirs


def _cure(
    model: nn.Module,
    strangers: Mapping[str, Tensor],
    surplus: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> str:
    """What may help, to follow the line that says what doesn't fit."""
    fitting = {key: given[key] for key in strangers if key in given}
    if len(fitting) == len(strangers) == 1 and not surplus:
        ((key, ours),) = strangers.items()
        if ours.dim() == 4 and ours.shape[1] == 2 and fitting[key].shape[1] == 3:
            return "; a third channel of event frames is the sum of both: data.channels=3 data.binning.total=true"
    blocks = all(map(BLOCK.match, surplus))
    if (strangers or surplus) and blocks and len(fitting) == len(strangers) and strange(strangers, given) is None:
        return "; init.slice=true takes the leading part of each, and the first blocks"
    return fits_instead(model, state)


def _named(keys: Iterable[str]) -> str:
    shown = list(keys)
    return ", ".join(shown[:SHOWN]) + (" …" if len(shown) > SHOWN else "")
