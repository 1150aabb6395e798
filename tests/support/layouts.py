"""Tiny data sets in the real on-disk layouts."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def picture(seed: int, size: tuple[int, int] = (40, 36), kind: str = "JPEG") -> bytes:
    """An encoded image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def image_folders(root: Path, classes=("n01440764", "n01443537"), train: int = 4, val: int = 2) -> Path:
    """ImageNet's folders: ``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``."""
    for part, count in (("train", train), ("val", val)):
        for c, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{name}_{i}.JPEG").write_bytes(picture(100 * c + i + 50 * (part == "val")))
    return root


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def shards(root: Path, classes: int = 2, train: int = 2, each: int = 4) -> Path:
    """WebDataset shards of ``.jpg`` and ``.cls``, named as timm's copy of ImageNet names them."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"imagenet1k-train-{i:04d}.tar" for i in range(train)] + ["imagenet1k-validation-00.tar"]
    for s, name in enumerate(names):
        with tarfile.open(root / name, "w") as tar:
            for i in range(each):
                add(tar, f"{s:04d}{i:05d}.jpg", picture(10 * s + i))
                add(tar, f"{s:04d}{i:05d}.cls", str(i % classes).encode())
    return root


def cifar(root: Path, dataset: type, monkeypatch, each: int = 8) -> Path:
    """CIFAR's pickles. The published MD5 sums are replaced by those of the tiny files, so that they are checked."""
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    fine = "100" in dataset.__name__

    def write(name: str, content: dict) -> list[str]:
        raw = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(raw)
        return [name, hashlib.md5(raw).hexdigest()]

    def batch(name: str, seed: int) -> list[str]:
        data = np.random.default_rng(seed).integers(0, 256, (each, 3072), dtype=np.uint8)
        return write(name, {"data": data, "fine_labels" if fine else "labels": [i % 2 for i in range(each)]})

    monkeypatch.setattr(dataset, "train_list", [batch(name, i) for i, (name, _) in enumerate(dataset.train_list)])
    monkeypatch.setattr(dataset, "test_list", [batch(name, 9) for name, _ in dataset.test_list])
    meta = dict(dataset.meta)
    _, meta["md5"] = write(meta["filename"], {meta["key"]: [f"class {i}" for i in range(100 if fine else 10)]})
    monkeypatch.setattr(dataset, "meta", meta)
    return root


CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def stream(n: int = 300, sensor: tuple[int, int] = (128, 128), seed: int = 0, start: int = 0) -> np.ndarray:
    """Events in the order of their times."""
    rng = np.random.default_rng(seed)
    events = np.empty(n, [("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")])
    events["x"], events["y"] = rng.integers(sensor[0], size=n), rng.integers(sensor[1], size=n)
    events["t"], events["p"] = start + np.sort(rng.integers(300_000, size=n)), rng.integers(2, size=n)
    return events


def aedat2(events: np.ndarray) -> bytes:
    """A jAER file of a DVS128 on its side, as CIFAR10-DVS was taken: columns and rows run backwards, 0 is ON."""
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Creation time: System.nanoTime 1\r\n"
    words = np.empty((len(events), 2), ">u4")
    words[:, 0] = (127 - events["x"]) << 8 | (127 - events["y"]) << 1 | (1 - events["p"])
    words[:, 1] = events["t"]
    return header + words.tobytes()


def aedat31(events: np.ndarray, packet: int = 100) -> bytes:
    """A cAER file: a header of text, then packets; one of special events among those of polarity."""
    out = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-08-26 10:38:00\r\n#!END-HEADER\r\n"]
    out.append(struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + struct.pack("<II", 1, 0))
    for part in np.split(events, range(packet, len(events), packet)):
        out.append(struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(part), len(part), len(part)))
        words = np.empty((len(part), 2), "<u4")
        words[:, 0] = part["x"] << 17 | part["y"] << 2 | part["p"] << 1 | 1
        words[:, 1] = part["t"]
        out.append(words.tobytes())
    return b"".join(out)


def aedat4(events: np.ndarray) -> bytes:
    """A DV file without compression: two flatbuffers, laid out by hand."""
    info = (
        b'<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        b'<node name="0" path="/mainloop/Recorder/outInfo/0/"><attr key="compression" type="string">NONE</attr>'
        b'<attr key="typeIdentifier" type="string">EVTS</attr>'
        b'<node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
        b'<attr key="sizeX" type="int">128</attr><attr key="sizeY" type="int">128</attr></node></node></node></dv>'
    )
    # root offset, identifier, vtable (3 fields), table: compression, dataTablePosition, infoNode
    head = struct.pack("<I4sHHHHH2x", 20, b"IOHE", 10, 20, 4, 8, 16)
    head += struct.pack("<iiqI", 12, 0, -1, 4) + struct.pack("<I", len(info)) + info + b"\0"
    records = np.zeros(len(events), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "?"), ("pad", "V3")])
    records["t"], records["x"], records["y"], records["on"] = (events[k] for k in "txyp")
    body = struct.pack("<I4sHHH2x", 16, b"EVTS", 6, 8, 4) + struct.pack("<iI", 8, 8)
    body += struct.pack("<4xI", len(events)) + records.tobytes()
    sized = [struct.pack("<I", len(part)) + part for part in (head, body)]
    return b"#!AER-DAT4.0\r\n" + sized[0] + struct.pack("<ii", 0, len(sized[1])) + sized[1]


def mat(events: np.ndarray) -> bytes:
    """What dat2mat.m makes of such a recording: x and y change places, rows are counted from below."""
    out = io.BytesIO()
    savemat(out, {"out1": np.stack([events["t"], events["y"], 127 - events["x"], 2 * events["p"] - 1], axis=1)})
    return out.getvalue()


def saccade_bin(events: np.ndarray) -> bytes:
    """N-MNIST's 40 bits an event; times that need more than 13 bits follow events that say so (y = 240)."""
    rows, overflows = [], 0
    for x, y, t, p in events.tolist():
        while t - overflows * 2**13 >= 2**13:
            rows.append((0, 240, 0, 0, 0))
            overflows += 1
        t -= overflows * 2**13
        rows.append((x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255))
    return np.array(rows, np.uint8).tobytes()


def cifar10_dvs(root: Path, kind: str = "aedat", numbers=(0, 1, 2, 3, 909, 910)) -> Path:
    """CIFAR10-DVS's class folders."""
    write = {"aedat": aedat2, "aedat4": aedat4, "mat": mat}[kind]
    for c, name in enumerate(CLASSES):
        folder = root / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for n in numbers:
            (folder / f"cifar10_{name}_{n}.{kind}").write_bytes(write(stream(seed=1000 * c + n)))
    return root


def gesture(root: Path, train=("user01", "user02"), test=("user24",)) -> Path:
    """DvsGesture.tar.gz unpacked: recordings, their gestures' times, two lists of recordings."""
    folder = root / "DvsGesture"
    folder.mkdir(parents=True)
    for part, users in (("train", train), ("test", test)):
        for n, user in enumerate(users):
            rows = ["class,startTime_usec,endTime_usec"]
            rows += [f"{c + 1},{c * 25_000 + 1000},{c * 25_000 + 24_000}" for c in range(11)]
            (folder / f"{user}_led_labels.csv").write_text("\n".join(rows) + "\n")
            (folder / f"{user}_led.aedat").write_bytes(aedat31(stream(3000, seed=n)))
        (folder / f"trials_to_{part}.txt").write_text("".join(f"{user}_led.aedat\n" for user in users))
    return root


def gesture_cut(root: Path) -> Path:
    """tonic's copy: one array a gesture, columns x, y, p, t in ms."""
    for folder, users in (("ibmGestureTrain", ("user01", "user02")), ("ibmGestureTest", ("user24",))):
        for n, user in enumerate(users):
            where = root / "DVSGesture" / folder / f"{user}_led"
            where.mkdir(parents=True)
            for c in range(11):
                events = stream(seed=100 * n + c)
                events["t"] //= 1000
                np.save(where / f"{c}.npy", np.stack([events[k] for k in "xypt"], axis=1))
    return root


def n_mnist(root: Path) -> Path:
    for part, count in (("Train", 4), ("Test", 2)):
        for digit in range(10):
            folder = root / "NMNIST" / part / str(digit)
            folder.mkdir(parents=True)
            for i in range(count):
                content = saccade_bin(stream(sensor=(34, 34), seed=10 * digit + i))
                (folder / f"{10 * digit + i:05d}.bin").write_bytes(content)
    return root


def n_caltech101(root: Path, classes: int = 101, each: int = 10) -> Path:
    for c in range(classes):
        folder = root / "NCALTECH101" / "Caltech101" / f"class_{c:03d}"
        folder.mkdir(parents=True)
        for i in range(each):
            events = stream(20, sensor=(200, 150), seed=100 * c + i)
            (folder / f"image_{i:04d}.bin").write_bytes(saccade_bin(events))
    return root


def hardvs(root: Path, classes: int = 300, each=(("train", 2), ("val", 1), ("test", 1))) -> Path:
    """HARDVS's compact files and lists, a class's recordings in its folder whatever their part."""
    home = root / "HARDVS"
    listed: dict[str, list[str]] = {part: [] for part, _ in each}
    for c in range(classes):
        (home / f"action_{c + 1:03d}").mkdir(parents=True)
        for number, part in enumerate(part for part, count in each for _ in range(count)):
            name = f"action_{c + 1:03d}/dvSave-2021_10_15_19_{number:02d}_{c % 60:02d}"
            events = stream(60, sensor=(346, 260), seed=10 * c + number)
            start = 1634296000000000  # as DV counts, in µs since 1970
            fields = {"t": events["t"] + start, "x": events["x"], "y": events["y"], "p": events["p"]}
            np.savez(home / f"{name}.npz", **fields)
            listed[part].append(f"{name} {c}")
    for part, lines in listed.items():
        (home / f"{part}_label.txt").write_text("\n".join(lines) + "\n\n")
    return root
