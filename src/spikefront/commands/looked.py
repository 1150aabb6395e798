"""What ``data`` does with a folder: reads it once, says what is there, keeps it, advises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from spikefront.commands.cli import explain
from spikefront.config import compose, override
from spikefront.console import console
from spikefront.data.cleaning import check_reach
from spikefront.data.formats import Declared
from spikefront.data.framing import Framing
from spikefront.data.looking.advice import Advice, for_pictures, for_recordings
from spikefront.data.looking.lines import of_all
from spikefront.data.looking.overview import Overview, look_at_pictures, look_at_recordings
from spikefront.data.looking.sheet import CLASSES, COLUMNS, sheet
from spikefront.data.own.card import Card
from spikefront.data.own.folder import Asked, Parted, open_folder, parted
from spikefront.data.own.samples import Found
from spikefront.data.own.split import Shares
from spikefront.data.windows import Windows
from spikefront.errors import UserError, in_a_line
from spikefront.files import cache_folder, writing
from spikefront.start import typed

PICTURE = "spikefront.png"


def as_json(root: Path, folder: Path, kinds: Mapping[str, str | None], cfg: DictConfig) -> None:
    """Print a list with an object a file of ``folder``, in which those of ``root`` lie.

    Raises:
        UserError: none of them can be read.
    """
    declared = declaration(root, cfg)
    entries: list[dict[str, Any]] = []
    with progress(folder, list(kinds)) as step:
        for file, kind in kinds.items():
            if kind == "pictures":
                seen = look_at_pictures(folder, [file], step)
            else:
                seen = look_at_recordings(folder, [file], declared, step)
            unusable = {"unusable": seen.unusable[file]} if file in seen.unusable else {}
            entries.append({"file": file, **seen.facts[file], **unusable})
    print("[" + ",".join(f"\n{json.dumps(entry)}" for entry in entries) + ("\n]" if entries else "]"), flush=True)
    if all("error" in entry for entry in entries):
        why = f": {entries[0]['file']}: {entries[0]['error']}" if entries else ", it is empty"
        raise UserError(f"nothing in {root} can be read{why}")


class Folder:
    """One folder of recordings or of pictures.

    Args:
        place: where its files lie: in it, or beside it if it is one.
        files: of that kind.
        settings: overrides of ``conf/data``, ``data.root`` first.
        cfg: the command's own configuration.
    """

    def __init__(
        self, root: Path, place: Path, kind: str, files: Sequence[str], settings: list[str], cfg: DictConfig
    ) -> None:
        self.root, self.place, self.kind, self.files, self.settings, self.cfg = root, place, kind, files, settings, cfg
        self.option = f"data={'event' if kind == 'recordings' else 'image'}_folder"
        self.data = compose([self.option, *settings]).data
        self.timesteps = int(cfg["timesteps"] or self.data.timesteps)
        self.asked = Asked(str(root), kind, self.data.layout, self.data.table, self.data.cache)
        self.found: Found | None = None
        self.parted: Parted | None = None
        self.question: str | None = None
        if root.is_dir():
            try:
                self.found, _ = open_folder(self.asked)
                with in_a_line():
                    shares = Shares(self.data.test_fraction, self.data.val_fraction, self.data.seed)
                self.parted = parted(self.asked, shares, keep=cfg["write"])
            except UserError as error:
                self.question = explain(error)

    def look(self) -> None:
        """Everything, printed.

        Raises:
            UserError: no file can be read, or a setting can't be.
        """
        seen = self._seen()
        out = console(soft_wrap=True)
        for line in of_all(self.root, self.kind, seen, self.found, self.parted):
            out.print(line)
        if not seen.good:
            file, why = next(iter(seen.bad.items()))
            raise UserError(f"nothing in {self.root} can be used: {file}: {why}")
        for line in self.parted.lines[1:] if self.parted else ():
            out.print(f"          {line}")
        self._check(seen)
        if self.question is None:
            self._keep(seen)
            self._sheet(seen, out.print)
        self._advise(seen, out.print)
        if self.question is not None:
            console(stderr=True, soft_wrap=True).print(f"spikefront: {self.question}")

    def _seen(self) -> Overview:
        place = self.place
        files = self.files if self.found is None else sorted({s.file for s in self.found.samples})
        with progress(place, files) as step:
            if self.kind == "pictures":
                return look_at_pictures(place, files, step)
            self.declared = declaration(self.root, self.cfg)
            trains = (lambda file: self.parted.parts[file] == "train") if self.parted else (lambda file: True)  # type: ignore[union-attr]
            return look_at_recordings(
                place,
                files,
                self.declared,
                step,
                self.found.samples if self.found else None,
                Windows.of(self.data.window, self.data.stride),
                self.timesteps,
                self._framed,
                trains,
            )

    def _framed(self, sensor: tuple[int, int]) -> Framing:
        pooled = self.data.image_size if self.data.downsample == "sum" else None
        crop = self.data.crop if self.data.crop is None else list(self.data.crop)
        return Framing(sensor, crop, self.data.fit, pooled)

    def _check(self, seen: Overview) -> None:
        """Ask what training would ask: for a sensor that isn't known, for one of several, for the true one."""
        if self.kind == "pictures" or self.question is not None:
            return
        sensors = seen.sensors()
        try:
            for (sensor, whence), files in sensors.items():
                if sensor is None:
                    raise UserError(
                        f"{files[0]} ({seen.facts[files[0]]['format']}) doesn't say how large its sensor is ({whence}):"
                        " give sensor=[width,height]"
                    )
                if whence == "given" and sensor in seen.counts:
                    height, width = (np.argwhere(seen.counts[sensor]).max(0) + 1).tolist()
                    check_reach([(width, height)], sensor)
            if len({sensor for sensor, _ in sensors}) > 1 and self.found and not self.data.mixed_sensors:
                told = ", ".join(f"{s[0]}x{s[1]} ({len(its)} files, {its[0]})" for (s, _), its in sensors.items() if s)
                raise UserError(f"recordings of several sensors: {told}: take one's, or data.mixed_sensors=true")
        except UserError as error:
            self.question = explain(error)

    def _keep(self, seen: Overview) -> None:
        """What was said of recordings, once all of them could be read with it, as training does."""
        if self.parted is None or not self.cfg["write"] or self.kind == "pictures" or seen.bad:
            return
        given = {key: getattr(self.declared, key) for key in ("sensor", "columns", "unit")}
        card = Card(self.root, self.asked.kept)
        said = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items() if v is not None}
        card.write(said, card.kept)

    def _sheet(self, seen: Overview, say: Callable[[str], None]) -> None:
        if self.found is None:
            return
        card = Card(self.root, self.asked.kept).path
        place = self.cfg["sheet"] or (card.with_name(PICTURE) if card.parent == self.root else card.with_suffix(".png"))
        if not self.cfg["write"] and self.cfg["sheet"] is None:
            return
        from spikefront.data import build_data
        from spikefront.data.looking import contact

        classes = self.found.classes[:CLASSES]
        try:
            with in_a_line():
                module: Any = build_data(self.data, self.timesteps)
            if self.kind == "pictures":
                shown = list(contact.of_pictures(module, seen, self.found.samples, classes))
            else:
                shown = list(contact.of_recordings(module, seen, classes))
        except UserError as error:
            say(f"no contact sheet: {error}")
            return
        some = (
            f", the first {len(classes)} of {len(self.found.classes)} classes" if classes != self.found.classes else ""
        )
        title = [f"{self.root}{some}", self._how(module)]
        with writing(place, "wb") as file:
            sheet(title, shown, self.kind == "recordings").save(file, "PNG")
        say(f"contact sheet{some}: {place}")

    def _how(self, module: Any) -> str:
        side = f"{module.image_size}x{module.image_size}"
        if self.kind == "pictures":
            return f"as the network sees them in evaluation: {side}"
        shown = f"{min(self.timesteps, COLUMNS)} of {self.timesteps} timesteps"
        return f"{shown} by {module.binning.mode}; {module.framing}; {side}; ON orange, OFF blue; below each its sum"

    def _advise(self, seen: Overview, say: Callable[[str], None]) -> None:
        if self.kind == "pictures":
            advice = for_pictures(seen)
        else:
            sides = {max(self._framed(s).seen) for s in seen.counts}
            windowed = self.data.window is not None
            side = min(sides, default=None)
            advice = for_recordings(seen, self.timesteps, side, windowed, self.data.binning.mode)
        for line in advice.warnings:
            say(f"warning   {line}")
        for i, line in enumerate(advice.why):
            say(f"{'advice' if not i else '':<10}{line}")
        if self.found is not None and self.question is None:
            for line in self._commands(advice):
                say(line)

    def _commands(self, advice: Advice) -> Iterator[str]:
        """To be pasted: what was given here, and of what is advised all that is not given."""
        given = {o.lstrip("+").partition("=")[0] for o in self.settings}
        if self.cfg["timesteps"]:
            advice.settings["model.timesteps"] = self.timesteps
        more = [override(key, value) for key, value in advice.settings.items() if key not in given]
        usual = {override("data.binning.mode", self.data.binning.mode)} if self.kind == "recordings" else set()
        kept = [o for o in more if o not in usual]
        fixed = [o for o in kept if not o.startswith("model.timesteps=")]
        yield typed("sweep", "-m", "hparams_search=timesteps", self.option, *self.settings, *fixed)
        yield typed("train", "model=sdt_2_256", self.option, *self.settings, *kept)


def declaration(root: Path, cfg: DictConfig) -> Declared:
    """What is said of recordings that don't say it, here or in the folder's card."""
    cache = Path(str(cfg["data"].get("cache") or cache_folder())).expanduser()
    kept = Card(root, cache).settings if root.is_dir() else {}
    said: dict[str, Any] = {}
    for key in ("sensor", "columns", "unit"):
        given = cfg[key] if cfg[key] is not None else cfg["data"].get(key)
        said[key] = (
            OmegaConf.to_object(given) if OmegaConf.is_config(given) else given if given is not None else kept.get(key)
        )
    sensor = said.pop("sensor")
    if sensor is not None and not (
        isinstance(sensor, list) and len(sensor) == 2 and all(isinstance(n, int) and n > 0 for n in sensor)
    ):
        raise UserError(f"sensor is {sensor}: give its width and height in pixels, such as [128,128]")
    return Declared(sensor=tuple(sensor) if sensor else None, **said)


@contextmanager
def progress(folder: Path, files: Sequence[str] | dict[str, Any]) -> Iterator[Callable[[str], None]]:
    """Context with a bar on standard error, if that is a terminal; what it gives is told of each file that is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    sizes = {file: (folder / file).stat().st_size for file in files}
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=len(sizes))
        yield lambda file: bar.advance(task)
