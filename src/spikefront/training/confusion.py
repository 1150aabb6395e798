"""Which classes are taken for which in a test pass, and which samples a network is most surely wrong about."""

from __future__ import annotations

import heapq
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from spikefront.data import ImageData
from spikefront.files import write_atomically

FILE = "confusion.json"
LISTED = 50  # of the samples that are most surely wrong
SHOWN = 3

Wrong = tuple[float, int, int, int]  # probability, place in the test part (-1: unknown), class, the one it said


class Confusion(pl.Callback):
    """Counts, over the test part and all processes, how often each class is taken for each.

    What it holds is bounded: classes by classes, and ``LISTED`` samples.

    Attributes:
        matrix: ``(classes, classes)``, rows the true ones.
        wrong: most probable first.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.matrix, self.wrong = np.zeros((classes, classes), np.int64), list[Wrong]()

    def on_test_epoch_start(self, *_: Any) -> None:
        self.matrix[:], self.wrong = 0, []

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        target = outputs["target"].cpu().numpy()
        likely, said = outputs["steps"].float().mean(0).softmax(-1).max(-1)
        sure, chosen = likely.cpu().numpy(), said.cpu().numpy()
        np.add.at(self.matrix, (target, chosen), 1)
        places = self._places(trainer, batch_idx, len(target))
        there = np.flatnonzero(target != chosen)
        found = [(float(sure[i]), places[i], int(target[i]), int(chosen[i])) for i in there]
        self.wrong = heapq.nlargest(LISTED, [*self.wrong, *found])

    @staticmethod
    def _places(trainer: pl.Trainer, batch: int, count: int) -> list[int]:
        """Of a batch's samples in the test part, as ``data.order`` shares it; unknown where some were left out."""
        order = trainer.test_dataloaders.order  # type: ignore[union-attr]
        size, mine = trainer.test_dataloaders.size, range(order.rank, order.total_size, order.num_replicas)  # type: ignore[union-attr]
        places = list(mine[batch * size : (batch + 1) * size])
        return places if len(places) == count else [-1] * count

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, (self.matrix, self.wrong))
            self.matrix = np.sum([matrix for matrix, _ in parts], axis=0)
            self.wrong = heapq.nlargest(LISTED, [sample for _, wrong in parts for sample in wrong])

    def found(self, data: ImageData) -> dict[str, Any]:
        """JSON-ready: ``classes``, ``matrix``, ``confused`` (pairs, most often first) and ``wrong`` (samples)."""
        known = data.classes or ()
        names = list(known) if len(known) == self.classes else [str(i) for i in range(self.classes)]
        counts, totals = self.matrix - np.diag(np.diag(self.matrix)), self.matrix.sum(1)
        often = sorted(zip(*np.nonzero(counts), strict=True), key=lambda pair: (-counts[pair], pair))
        return {
            "part": "test",
            "samples": int(totals.sum()),
            "classes": names,
            "confused": [
                {"true": names[t], "said": names[s], "count": int(counts[t, s]), "of": int(totals[t])}
                for t, s in often[:LISTED]
            ],
            "wrong": [
                {
                    "sample": data.sample_name(place) if place >= 0 else None,
                    "true": names[t],
                    "said": names[s],
                    "probability": probability,
                }
                for probability, place, t, s in self.wrong
            ],
            "matrix": self.matrix.tolist(),
        }


def enter(confused: Confusion, result: Any, data: ImageData, directory: str | Path) -> None:
    """The worst of what was found into a ``Result``, all of it into ``confusion.json``."""
    found = confused.found(data)
    result.confused, result.wrong = (found[key][:SHOWN] for key in ("confused", "wrong"))
    Path(directory).mkdir(parents=True, exist_ok=True)
    rank_zero_only(save)(found, directory)


def save(found: dict[str, Any], directory: str | Path) -> Path:
    """Write ``confusion.json``, a line a row of the matrix."""
    rows = found["matrix"]
    text = json.dumps({**found, "matrix": []}, indent=2, ensure_ascii=False)
    lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    return write_atomically(Path(directory) / FILE, text.replace('"matrix": []', f'"matrix": [\n{lines}\n  ]') + "\n")
