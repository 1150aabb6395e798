"""A trained network in the forms that others read: one module a format.

Each has ``write(model, sample, directory, **options) -> dict``: it writes its files of ``model``, in evaluation mode,
into ``directory``, which is there and empty, and returns what is to be said of them (JSON-ready; ``export.json`` keeps
it). ``sample`` is an input ``(B, C, H, W)`` or ``(B, T, C, H, W)`` to trace with. Of the keyword arguments ``origin``
(what is exported, ``origin.Origin``) and ``format`` (the name in ``FORMATS``) a module takes those that it has a use
for; the others that it names are what ``options={…}`` may set.
"""

from spikefront.errors import UserError, near_matches

FORMATS = {
    "bundle": "spikefront.exporting.bundle",
    "torch": "spikefront.exporting.torch_export",
    "onnx": "spikefront.exporting.onnx_export",
    "int8": "spikefront.exporting.quantised",
    "int4": "spikefront.exporting.quantised",
    "nir": "spikefront.exporting.nir_graph",
    "neurobench": "spikefront.exporting.neurobench_metrics",
    "sanafe": "spikefront.exporting.sanafe_chip",
}


def module_of(name: str) -> str:
    """Where a format's ``write`` is. Raises UserError: there is no such format."""
    if name not in FORMATS:
        raise UserError(f"format={name} does not exist; {near_matches(name, FORMATS)}")
    return FORMATS[name]
