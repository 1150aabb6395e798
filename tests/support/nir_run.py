"""Runs a NIR graph by the equations its documentation gives, knowing nothing of the network it came of."""

from __future__ import annotations

from graphlib import TopologicalSorter

import nir
import torch
import torch.nn.functional as F


def run(graph, frames, dt):
    """``frames``: what enters at each step ``(T, B, …)`` -> what leaves ``(T, B, …)``, and spikes of each node."""
    state, seen = {}, {}
    out = torch.stack([_step(graph, x, dt, state, seen, "") for x in frames])
    return out, {name: torch.stack(steps) for name, steps in seen.items()}


def _step(graph, x, dt, state, seen, place):
    sources = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
    values = {}
    for name in TopologicalSorter(sources).static_order():
        node, path = graph.nodes[name], f"{place}{name}"
        given = x if isinstance(node, nir.Input) else sum(values[s] for s in sources[name])
        if isinstance(node, nir.NIRGraph):
            values[name] = _part(node, given, dt, state, seen, path)
        else:
            values[name] = _node(node, given, dt, state, path)
        if isinstance(node, nir.LIF | nir.IF | nir.Threshold):
            seen.setdefault(path, []).append(values[name])
    (out,) = (values[name] for name, node in graph.nodes.items() if isinstance(node, nir.Output))
    return out


def _part(node, x, dt, state, seen, path):
    of = {k: v.decode() if isinstance(v, bytes) else v for k, v in node.metadata.items()}
    if of["spikefront"] == "max_pool":
        return F.max_pool2d(x, int(of["kernel_size"]), int(of["stride"]), int(of["padding"]))
    return _step(node, x, dt, state, seen, f"{path}.")


def _node(node, x, dt, state, path):
    tensor = lambda a: torch.as_tensor(a, dtype=x.dtype)
    pair = lambda a: tuple(int(n) for n in a)
    if isinstance(node, nir.Input | nir.Output):
        return x
    if isinstance(node, nir.Conv2d):
        settings = pair(node.stride), pair(node.padding), pair(node.dilation), int(node.groups)
        return F.conv2d(x, tensor(node.weight), tensor(node.bias), *settings)
    if isinstance(node, nir.Affine):
        return F.linear(x, tensor(node.weight), tensor(node.bias))
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        kernel = pair(node.kernel_size)
        mean = F.avg_pool2d(x, kernel, pair(node.stride), pair(node.padding))
        return mean * kernel[0] * kernel[1] if isinstance(node, nir.SumPool2d) else mean
    if isinstance(node, nir.Flatten):
        return x.flatten(int(node.start_dim) + 1, int(node.end_dim))
    if isinstance(node, nir.Threshold):
        return (x > tensor(node.threshold)).to(x.dtype)
    v = state.get(path, torch.zeros_like(x))
    if isinstance(node, nir.LIF):
        v = v + dt / tensor(node.tau) * (tensor(node.v_leak) - v + tensor(node.r) * x)
    elif isinstance(node, nir.IF):
        v = v + dt * tensor(node.r) * x
    else:
        raise AssertionError(f"{path}: {type(node).__name__}")
    spikes = (v > tensor(node.v_threshold)).to(x.dtype)
    state[path] = torch.where(spikes > 0, tensor(node.v_reset), v)
    return spikes
