"""Whose answers may be learned: networks of timm's, of ours and of Hugging Face's, from files that are here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from torch import Tensor, nn

from spikefront import trust
from spikefront.config import compose, override
from spikefront.errors import UserError, in_a_line
from spikefront.nn.checkpoints import configuration, load_checkpoint, read_checkpoint
from spikefront.training.distillation import Teacher
from spikefront.training.inheritance import extract


class TimmTeacher(Teacher):
    """A network of timm's with weights from a file; nothing is downloaded.

    Args:
        model: its name, as ``timm.list_models()`` has it.
        weights: a file under timm's own names, ``.safetensors`` or ``.pth``.
        part: what ``Teacher`` takes.

    Raises:
        UserError: no such name or file, weights of another network.
    """

    def __init__(
        self, model: str | None, weights: str | Path | None, num_classes: int, in_channels: int, **part: Any
    ) -> None:
        import timm

        if not model or ":" in model:
            raise UserError(f"teacher.model is {model}: give a name that timm.list_models() has")
        if not weights:
            raise UserError(f"teacher.weights is not given: nothing is downloaded, so give a file with {model}'s")
        try:
            network = timm.create_model(model, pretrained=False, num_classes=num_classes, in_chans=in_channels)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"teacher.model={model}: {error}; timm.list_models() names all") from error
        super().__init__(load_checkpoint(network, weights), f"teacher.model={model}", **part)


class CheckpointTeacher(Teacher):
    """A network of this package's: one that ``train`` trained, a member of an elastic training, or a published file.

    Args:
        checkpoint: its file. Of an elastic training without ``member`` it is the largest network.
        member: keys of a member of an elastic training, as ``extract`` takes them.
        model: of a file that holds no configuration, as published ones: a name in ``conf/model``; the data set
            ``data``, ``num_classes`` and ``timesteps`` are then its own too.
        part: what ``Teacher`` takes.

    Raises:
        UserError: no such file, weights of another network, a configuration that would run code of others.
    """

    def __init__(
        self,
        checkpoint: str | Path | None,
        member: Mapping[str, Any] | None = None,
        model: str | None = None,
        data: str | None = None,
        num_classes: int | None = None,
        timesteps: int | None = None,
        **part: Any,
    ) -> None:
        if not checkpoint:
            raise UserError("teacher.checkpoint is not given: a file that train.py wrote")
        where = f"teacher.checkpoint={checkpoint}"
        if member:
            super().__init__(extract(checkpoint, member), where, **part)
            return
        stored = configuration(read_checkpoint(checkpoint))
        if stored is not None:
            trust.check(stored["model"], where)
            network = instantiate({**stored["model"], "compile": False})
        elif model:
            own = {"model.num_classes": num_classes, "model.timesteps": timesteps}
            with in_a_line(f"teacher.model={model}: "):
                chosen = [f"model={model}", f"data={data}", *(override(key, value) for key, value in own.items())]
                network = instantiate(compose(chosen).model)
        else:
            raise UserError(
                f"{where} was not written by train.py: it holds no configuration; name its network, teacher.model=…"
            )
        super().__init__(load_checkpoint(network, checkpoint), where, **part)


class HuggingFaceTeacher(Teacher):
    """An image classifier of Hugging Face's ``transformers``; nothing is downloaded, no code of others is run.

    Args:
        model: a directory that ``save_pretrained`` wrote, or a hub's ``owner/name`` that is in the cache already.
        part: what ``Teacher`` takes.

    Raises:
        UserError: ``transformers`` isn't installed, no such model here.
    """

    def __init__(self, model: str | None, **part: Any) -> None:
        if not model:
            raise UserError("teacher.model is not given: a directory of an image classifier, or a hub's owner/name")
        try:
            from transformers import AutoModelForImageClassification
        except ImportError as error:
            raise UserError("teacher=huggingface needs transformers: pip install 'spikefront[huggingface]'") from error
        try:
            network = AutoModelForImageClassification.from_pretrained(
                str(Path(model).expanduser()), local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"teacher.model={model} is no image classifier that is here ({str(error).splitlines()[0]}): nothing is"
                " downloaded, so give a directory or fetch it first, hf download …"
            ) from error
        super().__init__(_Logits(network), f"teacher.model={model}", **part)


class _Logits(nn.Module):
    """Of what a classifier of Hugging Face's returns, the logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(pixel_values=images).logits
