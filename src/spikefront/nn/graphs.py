"""A network's steps without the host in their way: as CUDA graphs on a GPU, through ``torch.compile`` on the CPU.

A GPU needs some 20 ms for a step of a middle-sized network, of which it would spend 100 waiting for the host to launch
a thousand kernels. A graph is those launches recorded once, for one shape of input, and replayed as one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.torch_internals import copies, watched

SHAPES = 4  # inputs of how many shapes, modes and precisions have graphs
WARM = 2  # steps before a capture: libraries choose their algorithms in the first


class Fast:
    """Calls ``run(x)`` of a model as a graph, as ``torch.compile`` has it, or as it is; the result is the same.

    What a graph can't do runs as it is, and is said once: layers that somebody watches (as the energy meter does while
    it records), gradients of the input, more than ``SHAPES`` kinds of input. An input of a new shape runs as it is
    until it comes again.

    Args:
        graphs_only: on the CPU do nothing.
    """

    def __init__(self, graphs_only: bool = False) -> None:
        self.graphs_only, self.refused = graphs_only, False
        self._seen: dict[Any, int] = {}
        self._graphs: dict[Any, Graph] = {}
        self._compiled: dict[str, Callable[[Tensor], Tensor]] = {}  # by what is run

    def __reduce__(self) -> Any:
        """Copies and pickles begin anew: graphs hold addresses."""
        return Fast, (self.graphs_only,)

    def __call__(self, model: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or (not x.is_cuda and self.graphs_only):
            return run(x)
        if any(watched(m) for m in model.modules() if m is not model):
            return run(x)
        if not x.is_cuda:
            if run.__name__ not in self._compiled:
                self._compiled[run.__name__] = torch.compile(run)
            return self._compiled[run.__name__](x)
        if torch.cuda.is_current_stream_capturing() or x.requires_grad or self.refused:
            return run(x)
        tensors = [*model.parameters(), *model.buffers()]
        train = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        modes = tuple(m.training for m in model.modules())
        half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        where = tuple((t.data_ptr(), t.requires_grad) for t in tensors)
        how = run.__name__, train, torch.is_inference_mode_enabled(), half
        key = (*how, x.shape, x.dtype, x.device, hash(modes), hash(where))
        graph = self._graphs.get(key)
        if graph is None:
            self._graphs = {k: g for k, g in self._graphs.items() if k[-1] == key[-1]}  # weights moved: of no use
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] <= 1 or len(self._graphs) >= SHAPES:
                if len(self._graphs) >= SHAPES and self._seen[key] == 2:
                    warnings.warn(f"inputs of more than {SHAPES} kinds: others run without graphs", stacklevel=2)
                return run(x)
            try:
                graph = self._graphs[key] = Graph(model, run, x, train, half)
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                self.refused = True
                warnings.warn(f"no CUDA graph, the network runs without: {str(error).splitlines()[0]}", stacklevel=2)
                return run(x)
        return graph(x)


class Graph:
    """One shape's forward pass and, with ``train``, its backward pass, recorded."""

    def __init__(
        self, model: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, train: bool, half: torch.dtype | None
    ) -> None:
        self.turn = 0
        self.x = x.detach().clone()
        self.parameters = [p for p in model.parameters() if p.requires_grad] if train else []
        kept = [b.clone() for b in model.buffers()]

        def forward() -> Tensor:
            # weights cast outside the graph and kept would be old ones at the next step
            with torch.autocast("cuda", half, enabled=half is not None, cache_enabled=False):
                return run(self.x)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM):
                out = forward()
                if train:
                    torch.autograd.grad(out, self.parameters, torch.zeros_like(out), allow_unused=True)
            del out
        torch.cuda.current_stream().wait_stream(side)
        self.forward, self.backward, pool = (
            torch.cuda.CUDAGraph(),
            torch.cuda.CUDAGraph(),
            torch.cuda.graph_pool_handle(),
        )
        with torch.cuda.graph(self.forward, pool=pool, capture_error_mode="thread_local"):
            out = forward()
        self.gradients: tuple[Tensor | None, ...] = ()
        if train:
            self.grad = torch.zeros_like(out)
            with torch.cuda.graph(self.backward, pool=pool, capture_error_mode="thread_local"):
                self.gradients = torch.autograd.grad(out, self.parameters, self.grad, allow_unused=True)
        self.out = out.detach()
        for buffer, before in zip(model.buffers(), kept, strict=True):  # warming up moved running statistics
            buffer.copy_(before)

    def __call__(self, x: Tensor) -> Tensor:
        if self.parameters:
            return Replay.apply(self, x, *self.parameters)
        return self.replay(x)

    def replay(self, x: Tensor) -> Tensor:
        self.x.copy_(x)
        self.turn += 1
        self.forward.replay()
        return self.out.clone()


class Replay(torch.autograd.Function):
    """A graph's two halves as one differentiable operation."""

    @staticmethod
    def forward(ctx: Any, graph: Graph, x: Tensor, *_: Tensor) -> Tensor:
        ctx.graph = graph
        out = graph.replay(x)
        ctx.turn = graph.turn
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        graph: Graph = ctx.graph
        if ctx.turn != graph.turn:
            raise RuntimeError("model.compile=true: a second forward pass came before the first's backward pass")
        graph.grad.copy_(grads[0])
        graph.backward.replay()
        # copies: whoever accumulates gradients may keep what it gets, and the next replay writes there again
        found = iter(copies([g for g in graph.gradients if g is not None]))
        return None, None, *(None if g is None else next(found) for g in graph.gradients)
