"""Which samples train, validate and test."""

from __future__ import annotations

from collections import Counter

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefront.data.own.rows import Sample
from spikefront.data.own.split import Shares, assign, drawn, lacking, split_hash
from spikefront.errors import UserError


def samples(**counts: int) -> list[Sample]:
    return [Sample(f"{label}/{i}", label) for label, n in counts.items() for i in range(n)]


def shares(test: float = 0.2, val: float = 0.2, seed: int = 0) -> Shares:
    return Shares(test, val, seed)


def counted(found, parts) -> Counter:
    return Counter((s.label, parts[s.file]) for s in found)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.integers(5, 40), min_size=2, max_size=4), st.floats(0.13, 0.5), st.integers(0, 5))
def test_each_class_has_its_share(sizes, share, seed):
    found = samples(**{f"c{i}": n for i, n in enumerate(sizes)})
    parts = assign(found, shares(share, share, seed), {}, {})
    of = counted(found, parts)
    for i, n in enumerate(sizes):
        assert abs(of[f"c{i}", "test"] - share * n) <= 0.5 + 1e-6
        assert abs(of[f"c{i}", "val"] - share * (n - of[f"c{i}", "test"])) <= 0.5 + 1e-6
    assert parts == assign(found[::-1], shares(share, share, seed), {}, {})  # of the samples, not of their order


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from("ab"), st.integers(1, 9)), min_size=10, max_size=40),
    st.integers(0, 3),
)
def test_a_group_and_what_is_the_same_never_part(made, seed):
    found = [Sample(f"{i}", label, group=f"g{group}") for i, (group, label, _) in enumerate(made)]
    alike = {f"{i}": content for i, (*_, content) in enumerate(made)}
    try:
        parts = assign(found, shares(0.3, 0.3, seed), {}, alike)
    except UserError as error:
        assert any(cure in str(error) for cure in ("each needs one of its own", " works"))
        return
    for key in (lambda s: s.group, lambda s: alike[s.file]):
        of: dict = {}
        for s in found:
            assert of.setdefault(key(s), parts[s.file]) == parts[s.file]


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(5, 20), st.integers(0, 15), st.integers(0, 3))
def test_files_that_come_later_move_none_and_the_share_holds(first, more, seed):
    before = assign(samples(a=first, b=first), shares(seed=seed), {}, {})
    later = samples(a=first + more, b=first)
    after = assign(later, shares(seed=seed), before, {})
    assert all(after[file] == part for file, part in before.items())
    assert abs(counted(later, after)["a", "test"] - 0.2 * (first + more)) <= 1


def test_a_new_recording_goes_where_its_person_is():
    people = [Sample(f"{g}/{label}", label, group=g) for g in "pqrstu" for label in ("wave", "clap")]
    before = assign(people, shares(), {}, {})
    assert Counter(before.values()) == {"train": 8, "test": 2, "val": 2}
    more = [Sample(f"{g}/wave2", "wave", group=g) for g in "pqrstu"]
    after = assign([*people, *more], shares(), before, {})
    assert all(after[s.file] == before[f"{s.group}/wave"] for s in more)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (
            {"a": 40, "b": 2},
            "data.test_fraction=0.2 of 2 files leaves the class 'b' .* the smallest that works is 0.25",
        ),
        ({"a": 40, "b": 1}, "of the class 'b' there is 1 file for training and the test part"),
        ({"a": 40, "b": 3}, None),
    ],
)
def test_too_few_for_a_share(counts, said):
    found = samples(**counts)
    if said is None:
        assert set(counted(found, assign(found, shares(val=0), {}, {}))) == {
            (c, p) for c in "ab" for p in ("train", "test")
        }
        return
    with pytest.raises(UserError, match=said):
        assign(found, shares(val=0), {}, {})


def test_the_smallest_share_that_is_named_works_and_less_does_not():
    found = samples(a=40, b=2)
    units = {s.file: Counter([s.label]) for s in found}
    assert lacking(units, drawn(units, 0.25, 0)) is None and lacking(units, drawn(units, 0.24, 0)) == "b"


def test_where_no_share_of_one_part_is_enough_both_are_named():
    """Two people: one trains, one tests, nobody is left to validate."""
    found = [Sample(f"{g}{c}{i}", c, group=g) for g in ("anna", "ben") for c in "ab" for i in range(4)]
    with pytest.raises(
        UserError, match=r": data\.test_fraction=0\.25 data\.val_fraction=0 works; validation then uses"
    ):
        assign(found, Shares(0.2, 0.2, 0), {}, {})
    assert set(assign(found, Shares(0.25, 0.0, 0), {}, {}).values()) == {"train", "test"}


def test_parts_that_a_folder_names_are_kept():
    found = [Sample(f"{p}{c}{i}", c, part=p) for p in ("train", "test") for c in "ab" for i in range(6)]
    parts = assign(found, shares(val=0.34), {}, {})
    assert all((parts[s.file] == "test") == (s.part == "test") for s in found)
    assert counted(found, parts)["a", "val"] == 2
    for change, said in (
        (Sample("x", "c", part="train"), "the test part has no sample of the class 'c'"),
        (Sample("traina0", "b", part="test"), "traina0 is one recording, but in two parts"),
    ):
        with pytest.raises(UserError, match=said):
            assign([*found, change], shares(val=0), {}, {})
    with pytest.raises(UserError, match="traina0 and testa0 are the same, byte for byte, but in two parts"):
        assign(found, shares(), {}, {"traina0": "h", "testa0": "h"})
    with pytest.raises(UserError, match="no training part beside test"):
        assign(found[12:], shares(), {}, {})


def test_the_hash_is_of_contents_and_parts_not_of_names():
    found, digests = samples(a=2), {"a/0": "x", "a/1": "y"}
    parts = {"a/0": "train", "a/1": "test"}
    renamed = [Sample("n/0", "a"), Sample("n/1", "a")]
    same = split_hash(renamed, {"n/0": "train", "n/1": "test"}, {"n/0": "x", "n/1": "y"})
    assert split_hash(found, parts, digests) == same != split_hash(found, {**parts, "a/0": "test"}, digests)
