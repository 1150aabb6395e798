"""The search space: Hydra's grammar as Optuna distributions."""

import math

import optuna
import pytest
from hydra.core.override_parser.types import Quote, QuotedString
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.sweeping.search import expressions
from spikefront.sweeping.search.samplers import Exhaustive
from spikefront.sweeping.search.space import Space, parameter, parse
from spikefront.units import short_names


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("choice(1,2,4)", CategoricalDistribution((1, 2, 4))),
        ("lif,plif", CategoricalDistribution(("lif", "plif"))),
        ("range(1,9)", IntDistribution(1, 8)),
        ("range(0,1,0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("interval(0,1)", FloatDistribution(0, 1)),
        ("int(interval(1,8))", IntDistribution(1, 8)),
        ("tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("glob(*)", CategoricalDistribution(("a", "b"))),
    ],
)
def test_grammar(text, distribution):
    assert parameter("k", text, lambda group: ["a", "b"]).distribution == distribution


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3", "one value"),
        ("choice()", "empty"),
        ("range(5,1)", "empty"),
        ("interval(2,1)", "low"),
        ("tag(lag,interval(0,1))", "lag"),
        ("choice(1,", "can't read"),
        ("glob(x*)", "no option"),
        ("tag(log,range(1,100,10))", r"tag\(log,interval\(1,91\)\) or choice\(1,11,"),
        ("tag(log,range(0.1,1,0.3))", "'log' goes with intervals"),
        ("int(range(0,3,0.5))", "no step"),
        ("range(0,1,0)", "no step"),
        ("interval(0,inf)", "no end"),
        ("interval(nan,1)", "no end"),
        ("tag(log,choice(1,2))", "a tag goes with"),
    ],
)
def test_what_is_not_a_set_to_search_is_said(text, says):
    with pytest.raises(UserError, match=says):
        parameter("k", text, lambda group: ["a", "b"])


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("range(0,1,0.3)", [0, 0.3, 0.6, 0.9]),
        ("range(0.1,1,0.3)", [0.1, 0.4, 0.7]),
        ("range(0,0.7,0.1)", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        ("range(1,0,-0.3)", [0.1, 0.4, 0.7, 1]),
        ("float(range(1,4))", [1, 2, 3]),
        ("range(5,1,-2)", [3, 5]),
        ("tag(log,range(1,5))", [1, 2, 3, 4]),
    ],
)
def test_a_range_is_the_points_that_are_written(text, points):
    space = Space.parse({"k": text})
    assert space.size() == len(points)
    study = optuna.create_study(sampler=Exhaustive())
    assert sorted(space.suggest(study.ask())["k"] for _ in points) == points
    (p,) = space
    noisy = points if isinstance(p.distribution, IntDistribution) else [point + 1e-12 for point in points]
    assert [float(p.override(point).removeprefix("k=")) for point in noisy] == points
    assert [space.nearest({"k": p + 1e-3})["k"] for p in points] == points


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("tag(log,range(1,100,10))", IntDistribution(1, 91, log=True)),
        ("tag(log,range(0.1,1,0.3))", FloatDistribution(0.1, 1.0, step=0.3)),
        ("range(0,1,0.3)", FloatDistribution(0, 0.6, step=0.3)),
    ],
)
def test_a_study_of_an_earlier_version_goes_on_with_the_range_it_had(text, then):
    study = optuna.create_study()
    study.ask({"k": then})
    assert list(Space.stored({"k": text}).suggest(study.ask())) == ["k"]


def test_choices_are_written_back_as_hydra_reads_them():
    space = Space.parse({"data.pooling": "choice('0010','12')", "model.neurons": "choice({mlp:1},{mlp:2})"})
    pooling, neurons = space
    assert space.overrides({"data.pooling": "12"}) == ["data.pooling='12'"]
    assert pooling.distribution.choices == ("0010", "12")
    assert space.overrides({"model.neurons": neurons.distribution.choices[1]}) == ["model.neurons={mlp:2}"]


@pytest.mark.parametrize(
    "name",
    ["<b x='1'>(y)</b>", "a=b?", "[x]/{y}", "two words", "中文", "$x", "it's", "e#f", "a&b", "12", "null", "a\\"],
)
def test_choices_may_hold_any_character(name):
    quoted = QuotedString(name, Quote.single).with_quotes()
    space = Space.parse({"data.name": f"choice({quoted},'plain')"})
    assert space.parameters["data.name"].distribution.choices == (name, "plain")
    for where in (space, Space([])):  # a study's own, and one that does not know the parameter
        (override,) = where.overrides({"data.name": name})
        assert parse(override).value() == name


def test_a_condition_decides_what_is_asked_for():
    space = Space.parse({"neuron.w": {"values": "range(0,5)", "when": "neuron == 'plif'"}, "neuron": "lif,plif"})
    assert space.size() == 1 + 5
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [space.suggest(study.ask()) for _ in range(30)]
    assert {tuple(a) for a in asked} == {("neuron",), ("neuron", "neuron.w")}
    assert all(("neuron.w" in a) == (a["neuron"] == "plif") for a in asked)


@pytest.mark.parametrize("when", ["b == 1", "unknown > 2"])
def test_conditions_in_a_circle_or_on_nothing_are_refused(when):
    with pytest.raises(UserError, match=r"search\.space\.a"):
        Space.parse({"a": {"values": "1,2", "when": when}, "b": {"values": "1,2", "when": "a == 1"}})


def test_size_of_continuous_spaces_is_infinite():
    assert Space.parse({"a": "interval(0,1)"}).size() == math.inf
    assert Space.parse({"a": "range(0,4)", "b": "choice(1,2)"}).size() == 8


def test_a_trial_that_has_not_drawn_all_has_no_point_yet():
    space = Space.parse({"t": "choice(1,2)", "d": {"values": "choice(16,32)", "when": "t > 1"}})
    assert [space.point(v) for v in ({}, {"d": 16}, {"t": 2})] == [None] * 3
    assert space.point({"t": 1}) == space.point({"t": 1, "d": 16}) != space.point({"t": 2, "d": 16})


def test_default_is_the_nearest_point():
    space = Space.parse({"a": "interval(0,1)", "b": "range(2,9,3)", "c": "x,y", "d": "choice(1,2)"})
    assert space.nearest({"a": 3.0, "b": 6, "c": "z", "d": 2}) == {"a": 1.0, "b": 5, "d": 2}


def test_expressions():
    names = {"model.dim": 64, "model.num_heads": 8, "neuron": "lif"}
    assert expressions.evaluate("model.dim % model.num_heads == 0 and 1 < model.dim / 4 <= 16", names.get)
    assert expressions.evaluate("neuron not in ['plif', 'if'] and not neuron == 'x'", names.get)
    assert expressions.names("model.dim > 3 or neuron == 'a'") == {"model.dim", "neuron"}
    for bad in ("__import__('os')", "model.dim[0]", "(lambda: 1)()", "1 +", "neuron + 1", "1 / 0"):
        with pytest.raises(UserError):
            expressions.evaluate(bad, names.get)


def test_a_condition_on_what_is_not_there_does_not_hold():
    """Whatever it asks of it: ``c`` goes with ``b > 2``, and ``b`` itself only with ``a``."""
    space = Space.parse(
        {
            "a": "choice(on,off)",
            "b": {"values": "range(1,5)", "when": "a == 'on'"},
            "c": {"values": "choice(1,2)", "when": "b > 2"},
            "d": {"values": "choice(1,2)", "when": "not b > 2"},
            "e": {"values": "choice(1,2)", "when": "b + 1 < 3 or a == 'off'"},
        }
    )
    space.check()
    assert space.active({"a": "off"}) == ["a", "e"]
    assert space.active({"a": "on", "b": 4}) == ["a", "b", "c"]
    assert space.active({"a": "on", "b": 1}) == ["a", "b", "d", "e"]
    assert space.size() == 2 + 2 * 2 + 2 * 2 + 2 * 2 - 2  # a off: e; b=1: d and e; b=2: d; b=3, 4: c
    assert space.size({"b": 3}) == 2 + 2  # of a off there is no b


def test_every_corner_of_a_condition_is_tried_before_the_first_trial():
    space = Space.parse({"a": "choice(1,x)", "b": {"values": "choice(1,2)", "when": "a > 0"}})
    with pytest.raises(UserError, match=r"search\.space\.b: when: can't evaluate 'a > 0'"):
        space.check()


def test_one_group_at_several_places_is_several_parameters():
    place = "attention@model.stages.s{}.mixer"
    space = Space.parse(
        {
            "model": "sdt, maxformer_cifar",
            place.format(1): {"values": "none, dwc3", "when": "model == 'maxformer_cifar'"},
            place.format(2): {"values": "ssa, qkta", "when": f"{place.format(1)} == 'dwc3'"},
        }
    )
    assert list(space.parameters) == ["model", place.format(1), place.format(2)]
    assert space.size() == 1 + 1 + 2
    values = {"model": "maxformer_cifar", place.format(1): "dwc3", place.format(2): "qkta"}
    assert space.active(values) == list(values)
    assert space.overrides(values)[1:] == [
        "attention@model.stages.s1.mixer=dwc3",
        "attention@model.stages.s2.mixer=qkta",
    ]
    assert Space.stored(space.to_plain()).to_plain() == space.to_plain()
    cfg = compose(space.overrides(values))
    kinds = [str(stage.mixer._target_).rpartition(".")[2] for stage in cfg.model.stages.values()]
    assert kinds == ["Depthwise", "QKTA", "SSA"]


def test_short_names_tell_keys_apart():
    keys = ["model.stages.s1.depth", "model.stages.s3.depth", "model.dim", "attention@model.stages.s1.mixer"]
    assert list(short_names(keys).values()) == ["s1.depth", "s3.depth", "dim", "mixer"]
    assert short_names(["a.b", "b"]) == {"a.b": "a.b", "b": "b"}
