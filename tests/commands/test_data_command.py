"""``data``: what it says of a folder, what it keeps there, its JSON, what it asks."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import numpy as np
import own
import pytest
import written
import yaml
from PIL import Image

from spikefront.commands.data import arguments
from spikefront.config import ROOT, override_parser


@pytest.fixture
def look(script, tmp_path, monkeypatch):
    """``look(path, …)`` as ``python src/data.py path …`` -> (exit code, stdout, stderr)."""
    monkeypatch.setenv("SPIKEFRONT_CACHE", str(tmp_path / "cache"))
    return lambda *typed: script("data", *map(str, typed))


@pytest.fixture
def gestures(tmp_path):
    """EVT3 of 128x100, two classes of five."""
    for c, name in enumerate(("clap", "wave")):
        (tmp_path / "gestures" / name).mkdir(parents=True)
        for i in range(5):
            content = written.evt3(written.events(3000, seed=10 * c + i))
            (tmp_path / "gestures" / name / f"{i}.raw").write_bytes(content)
    return tmp_path / "gestures"


@pytest.mark.parametrize("name", ["plain", "a [b], c=d", "it's", "ünï 中文", "~x", "1", "key=value", "a#b"])
@pytest.mark.parametrize("form", ["{}", "root={}", "data.root={}"])
def test_a_path_holds_any_character(tmp_path, monkeypatch, name, form):
    (tmp_path / name).mkdir()
    for place in (tmp_path / name, f"{tmp_path}/not there/{name}"):
        if form != "{}" and tmp_path / name != place:
            continue  # what doesn't exist may be quoted for Hydra
        (argument,) = arguments([form.format(place)])
        parsed = override_parser().parse_override(argument)
        assert (parsed.key_or_group, parsed.value()) == ("root", str(place))


def test_arguments_are_those_of_a_training_too():
    given = ["data=event_folder", "data.root='/a [b]'", "data.crop=[0,0,8,8]", "sensor=[8,8]", "gestures"]
    assert arguments(given) == [
        "kind=recordings",
        "root='/a [b]'",
        "++data.crop=[0,0,8,8]",
        "sensor=[8,8]",
        "root=gestures",
    ]


def test_what_is_said_of_recordings_and_kept(look, gestures):
    code, out, err = look(gestures)
    assert (code, err) == (0, "")
    for line in (
        f"{gestures}: 10 recordings, ",
        "classes   2, samples by layout=class",
        "  wave       5   3 train, 1 val, 1 test   3,000 events",
        "sensor    128x100 (header): 10 files",
        "events    3,000 a sample (5-95 %: 3,000-3,000)",
        f"kept in {gestures}/spikefront.yaml",
        "advice    model.timesteps=4: 750 events a frame",
    ):
        assert line in out
    kept = (gestures / "spikefront.yaml").read_bytes()
    card = yaml.safe_load(kept)
    assert (card["kind"], card["layout"], card["classes"]) == ("recordings", "class", ["clap", "wave"])
    assert len(card["split"]["parts"]) == 10 and "sensor" not in card  # headers say it
    with Image.open(gestures / "spikefront.png") as sheet:
        assert sheet.size[1] > 6 * 128
    code, again, _ = look(gestures)
    assert (gestures / "spikefront.yaml").read_bytes() == kept
    assert again.splitlines() == [line for line in out.splitlines() if "kept in" not in line]


def test_the_last_lines_can_be_pasted(look, gestures):
    root = gestures.rename(gestures.with_name("my [new], ones=2"))
    _, out, _ = look(root, "timesteps=2", "image_size=32")
    sweep, train = (shlex.split(line) for line in out.splitlines()[-2:])
    assert sweep[:2] == ["python", "src/sweep.py"] and "hparams_search=timesteps" in sweep
    parsed = {o.key_or_group: o.value() for o in map(override_parser().parse_override, train[2:])}
    wanted = {"data.root": str(root), "data.image_size": 32, "model.timesteps": 2, "data": "event_folder"}
    assert wanted.items() <= parsed.items()
    assert "data.binning.mode" not in parsed  # as it is without


def test_write_false_leaves_the_folder_alone(look, gestures, tmp_path):
    code, _, _ = look(gestures, "write=false", f"sheet={tmp_path}/there.png")
    assert code == 0 and {p.name for p in gestures.iterdir()} == {"clap", "wave"}
    assert (tmp_path / "there.png").is_file()


def test_a_users_own_lines_stay(look, gestures):
    card = gestures / "spikefront.yaml"
    card.write_text("# mine\nclasses: [wave, clap]\n")
    assert look(gestures)[0] == 0
    text = card.read_text()
    assert text.startswith("# mine\nclasses: [wave, clap]\n") and "layout: class" in text
    card.write_text("classes: [wave\n")
    code, _, err = look(gestures)
    assert code == 1 and err.count("\n") == 1 and "spikefront.yaml is no YAML in line 2" in err


def test_a_setting_that_was_needed_is_kept(look, tmp_path):
    root = own.recordings(tmp_path / "npy")
    code, _, err = look(root)
    assert code == 1 and err.count("\n") == 1 and "give data.unit=us" in err
    assert "unit" not in (root / "spikefront.yaml").read_text().split("---")[0]
    code, out, err = look(root, "unit=us")
    assert code == 0 and "sensor    unknown (at least 23x16 by the events)" in out
    assert "give sensor=[width,height]" in err and "src/train.py" not in out
    code, _, err = look(root, "unit=us", "sensor=[240,160]")
    assert "data.sensor=[240,160] is implausible" in err
    assert "unit:" not in (root / "spikefront.yaml").read_text()
    assert look(root, "unit=us", "sensor=[24,16]")[::2] == (0, "")
    card = yaml.safe_load((root / "spikefront.yaml").read_text())
    assert (card["sensor"], card["unit"]) == ([24, 16], "us")
    assert look(root)[::2] == (0, "")


def test_what_can_be_read_in_two_ways_is_asked(look, tmp_path):
    for i, group in enumerate(("anna", "bo", "cy", "di", "ed")):
        own.recordings(tmp_path / "g" / group, each=1, begin=i)
    given = ("unit=us", "sensor=[24,16]")
    code, out, err = look(tmp_path / "g", *given)
    assert code == 0 and "events    400 a sample" in out
    assert err.count("\n") == 1 and "are anna and bo people or days (data.layout=group) or classes" in err
    assert not (tmp_path / "g" / "spikefront.yaml").exists()
    _, out, err = look(tmp_path / "g", *given, "layout=group")
    assert err == "" and "groups    5: anna, bo, cy, di, ed" in out


def test_several_sensors_are_asked_about(look, gestures):
    header = b"% evt 3.0\n% geometry 640x480\n% end\n"
    (gestures / "wave" / "5.raw").write_bytes(written.evt3(written.events(3000, (640, 480)), header))
    _, out, err = look(gestures)
    assert "recordings of several sensors: 128x100 (10 files" in err and "src/train.py" not in out
    _, out, err = look(gestures, "data.mixed_sensors=true")
    assert err == "" and "src/train.py" in out


def entries(out: str) -> dict[str, dict]:
    return {entry.pop("file"): entry for entry in json.loads(out)}


def test_json_of_a_flat_folder_of_many_formats(look, tmp_path):
    made = written.events()
    first, last = ({name: int(made[name][i]) for name in "xytp"} for i in (0, -1))
    for name, write in written.WRITERS.items():
        suffix = ".bin" if name == "n_mnist" else ""
        (tmp_path / f"f/{name}{suffix}").parent.mkdir(exist_ok=True)
        (tmp_path / f"f/{name}{suffix}").write_bytes(write(made))
        (tmp_path / f"f/cut_{name}{suffix}").write_bytes(write(made)[:-3])
    (tmp_path / "f/bare.raw").write_bytes(written.evt3(made, b"% evt 3.0\n% end\n"))
    (tmp_path / "f/sizeless.dat").write_bytes(written.dat(made, b"% Data file\n% Version 2\n"))
    (tmp_path / "f/none.raw").write_bytes(written.evt2(made[:0]))
    (tmp_path / "f/notes.md").write_text("# hello\n")
    code, out, err = look(tmp_path / "f", "format=json", "unit=us")
    found = entries(out)
    assert (code, err) == (0, "") and not (tmp_path / "f/spikefront.yaml").exists()
    for file in (*written.WRITERS, "bare.raw", "sizeless.dat"):
        entry = found[f"{file}.bin" if file == "n_mnist" else file]
        whole = {"events": 400, "on": int(made["p"].sum()), "first": first, "last": last}
        assert whole.items() <= entry.items(), file
    for file in ("bare.raw", "sizeless.dat", "n_mnist.bin", "npz", "mat"):
        assert (found[file]["sensor"], found[file]["whence"]) == (None, "at least 128x100 by the events")
    assert (found["aedat2"]["sensor"], found["aedat2"]["whence"]) == ([240, 180], "chip")
    bad = {file for file in found if file.startswith("cut_")} | {"none.raw", "notes.md"}
    assert {file for file, entry in found.items() if "error" in entry} == bad
    assert all(set(found[file]) == {"error"} for file in bad)


def test_json_of_one_file(look, tmp_path):
    content = written.evt3(written.events())
    (tmp_path / "a, b=[1].raw").write_bytes(content)
    code, out, _ = look(tmp_path / "a, b=[1].raw", "format=json")
    assert code == 0 and entries(out)["a, b=[1].raw"]["sensor"] == [128, 100]
    (tmp_path / "a, b=[1].raw").write_bytes(content[:-1])
    code, out, err = look(tmp_path / "a, b=[1].raw", "format=json")
    assert code == 1 and err.count("\n") == 1 and "truncated" in entries(out)["a, b=[1].raw"]["error"]


def test_json_says_what_training_would_refuse(look, tmp_path):
    made = written.events()
    made["t"][200:] -= 3000
    np.save(tmp_path / "a.npy", made)
    found = entries(look(tmp_path / "a.npy", "format=json", "unit=us", "sensor=[128,100]")[1])["a.npy"]
    assert found["events"] == 400 and "unsorted" in found["unusable"]


def test_pictures(look, tmp_path):
    root = own.pictures(tmp_path / "p", each=5, classes=("dark", "light"))
    with Image.open(root / "dark/0.png") as image:
        turned = image.getexif()
        turned[0x112] = 6
        image.save(root / "dark/0.jpg", exif=turned)
        image.convert("RGBA").save(root / "light/alpha.png")
    cut = (root / "dark/0.jpg").read_bytes()
    (root / "dark/cut.jpg").write_bytes(cut[: len(cut) // 2 + 200])
    code, out, err = look(root, "image_size=16")
    assert (code, err) == (0, "")
    for line in ("13 pictures", "12 of 12x10", "11 RGB, 1 RGBA", "turned    1 as EXIF says", "dark/cut.jpg: "):
        assert line in out
    found = entries(look(root, "format=json")[1])
    assert found["dark/0.jpg"] == {"format": "JPEG", "width": 12, "height": 10, "mode": "RGB", "orientation": 6}
    assert set(found["dark/cut.jpg"]) == {"error"} and "spikefront.png" not in found
    code, _, err = look(root, "sensor=[8,8]")
    assert code == 1 and "sensor=[8, 8] is of recordings" in err


def test_a_folder_that_cant_be_written(look, gestures, tmp_path, monkeypatch):
    monkeypatch.setattr("spikefront.data.own.card.os.access", lambda *_: False)  # root may write anywhere
    code, _, _ = look(gestures)
    assert code == 0 and not (gestures / "spikefront.yaml").exists() and not (gestures / "spikefront.png").exists()
    assert {p.suffix for p in (tmp_path / "cache/folders").iterdir()} >= {".yaml", ".png"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "is not there"),
        (lambda p: p.mkdir(), "it is empty"),
        (lambda p: (p.mkdir(), (p / "a.txt").write_text("hello\n")), "none of its 1 files is one, a.txt"),
    ],
)
def test_where_there_is_nothing(look, tmp_path, make, said):
    make(tmp_path / "x")
    code, out, err = look(tmp_path / "x")
    assert (code, out, err.count("\n")) == (1, "", 1) and said in err
    assert look()[2].startswith("spikefront: which folder?")
    assert "did you mean 'json'" in look(tmp_path / "x", "format=jsn")[2]


def test_it_waits_for_no_pytorch(tmp_path):
    (tmp_path / "a.raw").write_bytes(written.evt2(written.events()))
    program = (
        "import sys; sys.argv = ['src/data.py', sys.argv[1], 'format=json']; import data; data.main();"
        " print(*{'torch', 'sklearn'} & set(sys.modules))"
    )
    out = subprocess.check_output([sys.executable, "-c", program, str(tmp_path / "a.raw")], cwd=ROOT / "src", text=True)
    assert out.splitlines()[-1] == ""


def test_interrupted_it_says_so_and_the_same_command_goes_on(look, gestures, monkeypatch):
    from spikefront.data.looking import overview

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(overview, "seen", stopped)
        code, _, err = look(gestures)
    assert (code, err) == (130, "spikefront: interrupted\n")
    assert {p.name for p in gestures.iterdir()} == {"clap", "wave", "spikefront.yaml"}
    code, out, err = look(gestures)
    assert (code, err) == (0, "") and "advice" in out


@pytest.mark.parametrize("setting", ["timesteps=0", "timesteps=-3", "image_size=abc", "image_size=0"])
def test_numbers_are_above_zero(look, gestures, setting):
    key, _, value = setting.partition("=")
    assert look(gestures, setting) == (1, "", f"spikefront: {key}={value}: give a whole number above 0\n")


def test_marks_are_shown_in_their_own_time_and_late_ones_told(look, gestures):
    rows = [
        f"{c}/{i}.raw,{c},{1000 if i else ''},{60_000_000 if i == 1 else ''}"
        for c in ("clap", "wave")
        for i in range(5)
    ]
    (gestures / "labels.csv").write_text("file,label,start,end\n" + "\n".join(rows))
    code, out, _ = look(gestures)
    assert code == 0
    assert "late      2 marked samples end long after their recording's last event: clap/1.raw 1000-60000000 µs" in out
    assert "window keeps one for all" not in out  # they last no longer than there are events
