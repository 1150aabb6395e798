"""Which checks there are, and how they are made one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from spikefront.errors import UserError, near_matches, one_line
from spikefront.nn.audit import Audit
from spikefront.nn.audits.causality import causality, memory
from spikefront.nn.audits.equal_forms import compiled, folded, onnx, sparse
from spikefront.nn.audits.finding import Finding, not_tried
from spikefront.nn.audits.independence import batch, batch_training
from spikefront.nn.audits.repetition import additions, determinism, state
from spikefront.nn.audits.sizes import resolution, timesteps
from spikefront.nn.audits.spiking import saturated, silent, spikes, unrolled
from spikefront.nn.audits.subject import Subject

Check = Callable[[Subject], Finding]
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        *(additions, spikes, unrolled, batch, batch_training, causality, memory, state, determinism),
        *(silent, saturated, resolution, timesteps, folded, sparse, compiled, onnx),
    )
}


def examine(
    model: nn.Module,
    samples: Tensor,
    asked: Iterable[str] | None = None,
    known: Mapping[str, Check] = CHECKS,
    timesteps: int | None = None,
    time_first: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Audit:
    """Make those of the checks ``known`` that are ``asked`` for, all if None; ``model`` stays as it was.

    A check that can't be made of this network says so (``not tried``) and the next one begins.

    Raises:
        UserError: a check that there is not, a batch that the network doesn't take.
    """
    names = list(known) if asked is None else list(asked)
    for name in names:
        if name not in known:
            raise UserError(f"there is no check {name!r}; {near_matches(name, known)}")
    subject = Subject(model, samples, timesteps, time_first)
    findings = []
    for name in names:
        if progress is not None:
            progress(name)
        try:
            findings.append(known[name](subject))
        except UserError as error:
            findings.append(not_tried(name, one_line(error)))
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError) as error:
            findings.append(not_tried(name, f"the network raises {one_line(error)}"))
    found = subject.adds if {"additions", "spikes", "unrolled"} & set(names) else Audit()
    found.findings = findings
    return found
