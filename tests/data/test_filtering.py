"""Filters before the cache: over blocks as over the whole, told, keyed, and the same mask afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples, few
from hypothesis import given, settings
from hypothesis import strategies as st
from own import EVENTS, events, recordings

from spikefront.commands.cli import explain
from spikefront.config import compose, override
from spikefront.data import build_data
from spikefront.data.cache import EVENT
from spikefront.data.filtering import Filters
from spikefront.data.formats import BadRecording
from spikefront.errors import UserError

SENSOR = (7, 5)
EACH = [{"refractory": 20}, {"neighbours": 30}, {"hot": 3}, {"hot": 3, "refractory": 20, "neighbours": 30}]


def stream(seed: int, count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = np.zeros(count, EVENT)
    made["t"] = np.sort(rng.integers(0, 2000, count))
    made["x"], made["y"] = rng.integers(0, 7, count), rng.integers(0, 5, count)
    return made


@pytest.mark.parametrize("asked", few(EACH))
@settings(deadline=None, max_examples=examples(15))
@given(st.integers(0, 9), st.lists(st.integers(0, 300), max_size=6))
def test_blocks_come_to_the_same_as_the_whole(asked, seed, cuts):
    filters, whole, hot = Filters.of(asked), stream(seed), {"7x5": [[2, 3], [6, 0]]}
    notes: list[dict] = [{}, {}]
    at_once = np.concatenate(list(filters.over([whole], SENSOR, hot, notes[0])))
    in_blocks = np.concatenate(list(filters.over(np.split(whole, sorted(cuts)), SENSOR, hot, notes[1])))
    np.testing.assert_array_equal(at_once, in_blocks)
    assert notes[0] == notes[1] and notes[0]["events"] == 300
    assert len(at_once) == 300 - sum(notes[0]["removed"].values()) < 300


def test_what_leaves_nothing_is_a_bad_recording():
    lonely = stream(0)[:1]
    with pytest.raises(BadRecording, match=r"leave none of its 1 events \(neighbours=1 ms\)"):
        list(Filters.of({"neighbours": "1ms"}).over([lonely], SENSOR, None, {}))


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"hot": 0.5}, "data.filters.hot is 0.5: give how many times"),
        ({"refractory": "soon"}, "data.filters.refractory is 'soon': give a time such as 1ms"),
        ({"neighbours": 0}, "data.filters.neighbours is 0"),
        ({"neighbors": "1ms"}, "data.filters has no 'neighbors'; did you mean 'neighbours'"),
        ("hot", "data.filters is 'hot'"),
    ],
)
def test_wrong_filters_are_one_line(asked, line):
    with pytest.raises(UserError) as caught:
        Filters.of(asked)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def with_hot_pixels(root):
    """Pixel (3, 2) is hot in every recording, pixel (20, 13) in those of the test part alone."""
    recordings(root)
    quiet = build(root)
    tested = {r for r, part in quiet.parted().parts.items() if part == "test"}
    for file in sorted(root.rglob("*.npy")):
        made = np.load(file)
        for x, y in [(3, 2)] + [(20, 13)] * (file.relative_to(root).as_posix() in tested):
            hot = np.zeros(300, EVENTS)
            hot["x"], hot["y"], hot["t"] = x, y, np.linspace(0, 1.9e6, 300)
            made = np.concatenate([made, hot])
        np.save(file, made[np.argsort(made["t"], kind="stable")])
    return root


def build(root, *overrides, known=None):
    own = [override("data.root", str(root)), override("data.cache", f"{root.parent}/cache"), "data.num_workers=0"]
    own += ["data.sensor=[24,16]", "data.unit=us", "data.image_size=8"]
    data = build_data(compose(["data=event_folder", *own, *overrides]).data, timesteps=2)
    data.recall(known or {})
    data.setup()
    return data


def test_the_training_part_says_which_pixels_are_hot_and_a_checkpoint_keeps_them(tmp_path, capfd):
    root = with_hot_pixels(tmp_path / "root")
    data = build(root, "data.filters.hot=10")
    err = capfd.readouterr().err
    assert data.state_dict()["hot_pixels"] == {"24x16": [[3, 2]]}
    total = 10 * 700 + 2 * 300
    assert data.described()["filters"]["removed"]["hot"] == pytest.approx(3000 / total, abs=0.01)
    assert "looking for hot pixels in 6 recordings of the training part, once" in err
    assert f"data.filters removed of {total:,} events: hot pixels (1) 39." in err
    for part in (data.train_set, data.test_set):
        for i in range(len(part)):
            found = part.recordings[part.indices[i]]
            assert len(found) <= (400 if part is data.train_set else 700)
    assert "looking for" not in (build(root, "data.filters.hot=10"), capfd.readouterr().err)[1]
    known = {**data.state_dict(), "hot_pixels": {"24x16": [[3, 2], [20, 13]]}}
    again = build(root, "data.filters.hot=10", known=known)  # as of a checkpoint, whatever the folder holds now
    assert again.hot == known["hot_pixels"]
    assert again.described()["filters"]["removed"]["hot"] > data.described()["filters"]["removed"]["hot"]
    other = build(root, "data.filters.hot=5", known=known)
    assert other.hot == {"24x16": [[3, 2]]}
    _, sample = next(iter(again.shown(root / "left" / "0.npy", known)))
    _, without = next(iter(build(root).shown(root / "left" / "0.npy", {})))
    assert sample.sum() < without.sum() - 290


def test_filters_make_another_entry_and_tell_what_they_empty(tmp_path, capfd):
    root = recordings(tmp_path / "root")
    plain = build(root)
    some = build(root, "data.filters.refractory=1ms", "data.filters.neighbours=50ms")
    assert plain.train_set.recordings.recordings.entry != some.train_set.recordings.recordings.entry
    assert "data.filters removed of 4,000 events: refractory" in capfd.readouterr().err
    lonely = events(False, 9)[::40]
    lonely["x"], lonely["y"] = np.arange(10) % 2 * 9, 0
    np.save(root / "left" / "lonely.npy", lonely)
    with pytest.raises(UserError) as caught:
        build(root, "data.filters.neighbours=50ms")
    assert "left/lonely.npy: data.filters leave none of its 10 events (neighbours=50 ms)" in explain(caught.value)
    skipping = build(root, "data.filters.neighbours=50ms", "data.on_error=skip")
    assert sum(len(x) for x in (skipping.train_set, skipping.val_set, skipping.test_set)) == 10


def test_setting_up_again_reads_no_recording(tmp_path, monkeypatch):
    from spikefront.data.cache import Recordings

    root = recordings(tmp_path / "root")
    first = build(root, "data.window=500ms")

    def never(self, index):
        raise AssertionError("a recording was read and checked")

    monkeypatch.setattr(Recordings, "__getitem__", never)
    second = build(root, "data.window=500ms")
    assert second.train_set.recordings.cut == first.train_set.recordings.cut
    assert len({first.train_set.recordings.name(i) for i in range(len(first.train_set.recordings))}) == len(
        first.train_set.recordings
    )


def test_sets_that_others_made_take_filters_and_recordings_too(tmp_path):
    from layouts import n_mnist

    n_mnist(tmp_path / "data")
    common = ["data=n_mnist", f"data.root={tmp_path}/data", f"data.cache={tmp_path}/cache", "data.num_workers=0"]
    plain, filtered = (
        build_data(compose([*common, "data.val_fraction=0", *more]).data, 2)
        for more in ([], ["data.filters.refractory=100ms"])
    )
    for data in (plain, filtered):
        data.setup()
    assert 0 < filtered.described()["filters"]["removed"]["refractory"] < 1 and not plain.described()
    file = sorted((tmp_path / "data").rglob("*.bin"))[0]
    (_, one), (_, fewer) = (next(iter(data.shown(file, {}))) for data in (plain, filtered))
    assert one.shape == fewer.shape == (1, 2, 2, 34, 34) and fewer.sum() < one.sum()
