"""The network under audit: copies of it that can be run in any way, and what its modules gave meanwhile."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError, one_line
from spikefront.nn.audit import Audit, audit
from spikefront.nn.audits.trace import Trace, fingerprint, first_different, watching, whole
from spikefront.nn.torch_internals import without_our_hooks

SAMPLES = 5  # that are looked at, at most
STEPS = ("timesteps", "T", "num_steps")  # what networks call their number of timesteps
EQUAL = {torch.float64: 1e-9, torch.float32: 1e-3}  # of the largest logit, what rounding explains
GAIN, BIASES = 4.0, (-1.0, 3.0)  # of batch norms: neurons of every layer fire, and none all of the time


class Subject:
    """A network and samples to try it with.

    Everything is done with copies in double precision where the network can, so that rounding explains nothing; what
    is claimed of a configuration is tried on a ``driven`` copy, in which every path fires.

    Args:
        batch: ``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events; ``(T, B, C, H, W)`` if ``time_first``.

    Raises:
        UserError: an empty batch, or one that the network doesn't take.
    """

    def __init__(self, model: nn.Module, batch: Tensor, timesteps: int | None = None, time_first: bool = False) -> None:
        if not batch.numel():
            raise UserError("no samples: the batch to audit a network with is empty")
        self.original, self.time_first, self.events = _alone(model), time_first, batch.dim() == 5
        batch = batch.detach().cpu()
        batch = batch.transpose(0, 1) if time_first and self.events else batch
        own = (steps for name in STEPS if isinstance(steps := getattr(model, name, None), int))
        seen = batch.shape[1] if self.events else next(own, 1)
        self.timesteps = int(timesteps or seen)
        self.single = _several(batch, self.timesteps)
        self.given, self.batch = copy.deepcopy(self.original).double(), self.single.double()
        try:
            self.answers(self.given, self.batch, fresh=True)
        except Exception:  # not all networks can be had in double precision
            self.given, self.batch = copy.deepcopy(self.original), self.single
        try:
            self.answers(self.given, self.batch, fresh=True)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"the network doesn't take a batch of shape {tuple(batch.shape)}: {one_line(error)}"
            ) from error

    @cached_property
    def adds(self) -> Audit:
        """Which operations are additions where a spike is."""
        return audit(self.original, self.fed(self.single))

    @cached_property
    def driven(self) -> nn.Module:
        """A copy whose batch norms have the batch's statistics, a gain of 4 and biases around 1: every path fires."""
        return self._normalised(GAIN)

    @cached_property
    def lively(self) -> nn.Module:
        """The network as it is; if its batch norms have never seen data, with the batch's statistics."""
        norms = _norms(self.given)
        seen = [n for n in norms if n.num_batches_tracked is not None and n.num_batches_tracked > 0]
        settled = [n for n in norms if n.running_mean is not None and bool(n.running_mean.any())]
        return self.given if seen or settled or not norms else self._normalised(None)

    def _normalised(self, gain: float | None) -> nn.Module:
        model, drawn = copy.deepcopy(self.given), _generator()
        norms = _norms(model)
        for norm in norms:
            if norm.affine and gain is not None:
                nn.init.constant_(norm.weight, gain)
                nn.init.uniform_(norm.bias, *BIASES, generator=drawn)
            if norm.running_mean is not None:
                norm.reset_running_stats()
                norm.momentum, norm.training = None, True
        if not norms:
            return model
        self.answers(model, self.batch)
        fresh = copy.deepcopy(self.given)  # without what else the call left behind
        fresh.load_state_dict(model.state_dict())
        return fresh

    @cached_property
    def stateful(self) -> bool:
        """Whether a call leaves something behind that the next one finds."""
        model = copy.deepcopy(self.driven)
        first = self.traced(model, self.batch, whole, fresh=False)
        try:
            return bool(self.first_different(first, self.traced(model, self.batch, whole, fresh=False)))
        except Exception:
            return True

    @cached_property
    def random(self) -> bool:
        """Whether random numbers are drawn in evaluation."""
        first, other = (self.traced(self.driven, self.batch, whole, seed) for seed in (0, 1))
        return bool(self.first_different(first, other))

    def fed(self, batch: Tensor) -> Tensor:
        """Samples in the order of dimensions that the network takes."""
        return batch.transpose(0, 1) if self.time_first and batch.dim() == 5 else batch

    def run(self, model: nn.Module, batch: Tensor, seed: int = 0) -> Tensor:
        """Answers as of a network that was never called before: ``(T, B, classes)`` or ``(B, classes)``."""
        return self.answers(model, batch, seed, fresh=True if "stateful" not in self.__dict__ else self.stateful)

    def answers(self, model: nn.Module, batch: Tensor, seed: int = 0, fresh: bool = False) -> Tensor:
        """What ``model``, or a copy if ``fresh``, answers; for every timestep if it says so."""
        model = copy.deepcopy(model) if fresh else model
        more = {"per_step": True} if "per_step" in inspect.signature(model.forward).parameters else {}
        with self._quietly(seed):
            return _first_tensor(model(self.fed(batch), **more))

    def steps(self, answer: Tensor, samples: int) -> Tensor | None:
        """``(T, B, …)`` of answers that have a time; else None."""
        return answer if answer.dim() > 2 and answer.shape[:2] == (self.timesteps, samples) else None

    def rows(self, answer: Tensor, samples: int) -> Tensor:
        """Answers with the samples in front."""
        return answer if self.steps(answer, samples) is None else answer.transpose(0, 1)

    def equal(self, a: Tensor, b: Tensor) -> bool:
        """Whether two answers differ by rounding alone."""
        if a.shape != b.shape:
            return False
        scale = float(torch.nan_to_num(a).abs().max()) or 1.0
        return torch.allclose(a, b, rtol=0, atol=EQUAL.get(a.dtype, 1e-2) * scale, equal_nan=True)

    def difference(self, a: Tensor, b: Tensor) -> str:
        """How far two answers are apart, in words."""
        largest = float(torch.nan_to_num(a).abs().max()) or 1.0
        return f"logits differ by {100 * float((a - b).abs().max()) / largest:.2g} % of the largest"

    def traced(
        self,
        model: nn.Module,
        batch: Tensor,
        keep: Callable[[Tensor], Tensor | None],
        seed: int = 0,
        fresh: bool = True,
    ) -> Trace:
        """A fingerprint of what ``keep`` takes of every module's output, in the order in which they end.

        Logits alone would hide what a saturated or silent layer after the fault swallows.
        """
        model, found = copy.deepcopy(model) if fresh else model, []

        def see(name: str, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
            if (kept := keep(out)) is not None:
                found.append((name, fingerprint(kept)))

        with watching(model, see):
            self.answers(model, batch, seed)
        return found

    def first_different(self, a: Trace, b: Trace) -> tuple[str, ...]:
        """The module that ends first of those that gave something else, by more than rounding."""
        return first_different(a, b, EQUAL.get(self.batch.dtype, 1e-2))

    def of_sample(self, index: int, samples: int) -> Callable[[Tensor], Tensor | None]:
        """Of a module's output what belongs to a sample; None where that can't be told."""
        steps = self.timesteps

        def keep(out: Tensor) -> Tensor | None:
            shape = out.shape
            if len(shape) > 1 and shape[0] in (1, steps) and shape[1] == samples:
                return out[:, index]
            if len(shape) and shape[0] == steps * samples:
                return out.unflatten(0, (steps, samples))[:, index]
            return out[index] if len(shape) and shape[0] == samples else None

        return keep

    def of_steps(self, before: int, samples: int) -> Callable[[Tensor], Tensor | None]:
        """Of a module's output what belongs to the first steps; None where that can't be told."""
        steps = self.timesteps

        def keep(out: Tensor) -> Tensor | None:
            shape = out.shape
            if len(shape) > 1 and shape[:2] == (steps, samples):
                return out[:before]
            if len(shape) and shape[0] == steps * samples:
                return out.unflatten(0, (steps, samples))[:before]
            return out[:, :before] if len(shape) > 1 and shape[:2] == (samples, steps) else None

        return keep

    def frames(self) -> Tensor | None:
        """Samples with a time, ``(B, T, C, H, W)``, no two frames alike; None if the network takes none."""
        if self.timesteps < 2:
            return None
        if self.events:
            return self.batch
        noise = torch.randn(len(self.batch), self.timesteps, *self.batch.shape[1:], generator=_generator())
        shown, asked, n = self.batch.unsqueeze(1) + 0.5 * noise.to(self.batch), self.time_first, len(self.batch)
        for order in dict.fromkeys((asked, not asked)):  # which comes first is seen in how many samples it answers
            self.time_first = order
            with suppress(Exception):
                if len(self.rows(self.run(self.driven, shown), n)) == n:
                    return shown
        self.time_first = asked
        return None

    @contextmanager
    def _quietly(self, seed: int) -> Iterator[None]:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            yield


def _several(batch: Tensor, timesteps: int) -> Tensor:
    """As many samples as can't be taken for timesteps, at least two; made of noise on those there are if need be."""
    count = min(len(batch), SAMPLES)
    count = next(n for n in (count, count - 1, 3, 5) if n >= 2 and n != timesteps)
    if count <= len(batch):
        return batch[:count]
    copies = batch[torch.arange(count) % len(batch)].clone()
    noise = torch.randn(copies.shape, generator=_generator()).to(copies)
    noise[: len(batch)] = 0
    return copies + 0.5 * noise


def _alone(model: nn.Module) -> nn.Module:
    """A copy in evaluation on the CPU that runs as it is written, without graphs or generated code."""
    model = copy.deepcopy(model).cpu().eval()
    without_our_hooks(model)
    if hasattr(model, "fast"):
        setattr(model, "fast", None)  # noqa: B010  # of any class
    return model


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _norms(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def _first_tensor(out: Any) -> Tensor:
    """Logits of whatever a network returns."""
    if isinstance(out, Tensor):
        return out.detach()
    found = getattr(out, "logits", None)
    if isinstance(found, Tensor):
        return found.detach()
    for part in out.values() if isinstance(out, dict) else out if isinstance(out, tuple | list) else ():
        if isinstance(part, Tensor):
            return part.detach()
    raise UserError(f"the network returns a {type(out).__name__}: an audit needs logits, one tensor")
