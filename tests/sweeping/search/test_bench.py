"""The bench that searches are compared on: what is recorded stays, and a simulated clock tells nobody the future."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from spikefront.config import ROOT, compose


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks" / "tables"))
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import record
        import search
        import spaces

        yield SimpleNamespace(record=record, search=search, spaces=spaces)


def test_configurations_are_of_their_space_and_any_first_of_them_cover_it(bench):
    for of in bench.spaces.SETS.values():
        space, configurations = of.space, of.configurations()
        assert all(space.holds(k, v) for c in configurations for k, v in c.items())
        assert all(space.active(c) == list(c) for c in configurations)
        counts = np.bincount([c["model.timesteps"] for c in configurations[:64]])[1:]
        assert counts.min() >= 0.8 * counts.max()
        compose([*of.overrides, *space.overrides(configurations[0]), "output_dir=x"])


def test_every_configuration_and_the_first_ones_seeds_come_once(bench):
    jobs = bench.spaces.SETS["digits"].jobs()
    assert len(jobs) == len(set(jobs)) == 512 + 2 * 128
    assert jobs[:3] == [(0, 0), (1, 0), (2, 0)] and jobs.index((0, 1)) == 161


def test_a_torn_line_costs_one_record(bench, tmp_path):
    path = tmp_path / "runs.jsonl"
    bench.record.append(path, {"number": 0, "value": 1 / 3, "params": {"lr": 1 / 3}})
    with path.open("a") as file:
        file.write('{"number": 1, "val')
    bench.record.append(path, {"number": 2})
    assert [r["number"] for r in bench.record.raw(path)] == [0, 2]
    assert bench.record.raw(path)[0] == {"number": 0, "value": 0.33333, "params": {"lr": 1 / 3}}


class Scripted:
    """Asks for the same again and again, stops what it is told to, and remembers when it was told what."""

    def __init__(self, epochs: int, stops: int | None = None, most: int = 100) -> None:
        self.epochs, self.stops, self.most, self.log = epochs, stops, most, []

    def ask(self):
        from search import Job

        number = sum(what == "ask" for what, *_ in self.log)
        if number == self.most:
            return None
        self.log.append(("ask", number))
        return Job(number, {}, self.epochs)

    def report(self, job, epoch, anytime):
        self.log.append(("report", job.key, epoch, anytime[-1][0]))
        return epoch == self.stops

    def tell(self, job, epoch, anytime):
        self.log.append(("tell", job.key, epoch, anytime[-1][0]))


def course(epochs: int, seconds: float = 1.0) -> SimpleNamespace:
    points = np.array([[[0.1 * e, 1.0]] for e in range(1, epochs + 1)])
    return SimpleNamespace(points=points, means=points, seconds=np.full(epochs, seconds), before=0.5, after=0.25)


def test_workers_train_at_once_and_the_clock_counts_what_a_training_takes(bench):
    for workers in (1, 4):
        found = bench.search.simulate(Scripted(3), lambda params: course(3), workers, budget=7.5)
        assert [e["at"] for e in found.ended] == [3.75] * workers + [7.5] * workers
        assert found.ended[-1]["spent"] == 6 * workers
        assert all(e["epochs"] == 3 for e in found.ended)


def test_what_a_search_stops_costs_no_more_and_counts_for_nothing(bench):
    peer = Scripted(3, stops=2)
    found = bench.search.simulate(peer, lambda params: course(3), 1, budget=5.0)
    assert [(e["at"], e["epochs"]) for e in found.ended] == [(2.5, 2), (5.0, 2)]
    assert peer.log[:4] == [("ask", 0), ("report", 0, 1, 0.1), ("report", 0, 2, 0.2), ("tell", 0, 2, 0.2)]
    line = json.loads(json.dumps(vars(found)))
    assert bench.search.volumes(line, 1.0, 3, True, False, "at") == [(0.0, 0.0)]


def test_a_search_that_has_nothing_to_ask_for_waits_for_what_runs(bench):
    found = bench.search.simulate(Scripted(2, most=3), lambda params: course(2), 2, budget=100.0)
    assert len(found.ended) == 3


def test_luck_wins_nothing(bench):
    ends = [
        {"at": 1.0, "spent": 1, "epochs": 1, "seen": [[0.9, 0.5]], "means": [[0.6, 0.5]]},
        {"at": 2.0, "spent": 2, "epochs": 1, "seen": [[0.8, 0.5]], "means": [[0.8, 0.5]]},  # better, and not seen to be
    ]
    found = bench.search.volumes({"ended": ends}, 1.0, 1, True, False, "at")
    assert found == [(0.0, 0.0), (1.0, pytest.approx(0.3)), (2.0, pytest.approx(0.3))]


def test_energy_counts_in_decades_down_to_a_thousandth(bench):
    ends = [{"at": 1.0, "spent": 1, "epochs": 1, "seen": [[0.5, 1e-5]], "means": [[0.5, 1e-5]]}]
    assert bench.search.volumes({"ended": ends}, 1.0, 1, True, True, "at")[-1][1] == pytest.approx(0.5)


def test_our_own_search_runs_on_it_with_its_pruner(bench):
    space = bench.spaces.SETS["digits"].space

    def answers(params):
        steps = params["model.timesteps"]
        quality = 0.5 / (1 + abs(np.log(params["neuron.threshold"]))) + 0.1 * steps
        points = np.array(
            [[[quality * e / 6, 1e-8 * t * params["model.dim"]] for t in range(1, steps + 1)] for e in range(1, 7)]
        )
        return SimpleNamespace(points=points, means=points, seconds=np.ones(6), before=0.0, after=0.0)

    options = ["search/sampler=random", "search/pruner=front"]
    runs = [
        bench.search.simulate(bench.search.Ours(space, 6, 2, 1, options=options), answers, 2, 100.0) for _ in range(2)
    ]
    assert runs[0].ended == runs[1].ended
    stopped = [e["epochs"] for e in runs[0].ended if e["epochs"] < 6]
    assert stopped and len(runs[0].ended) > 34


def made(of, number: int, params: dict, seed: int) -> dict:
    """A record as a training would leave it, by a formula."""
    steps, size = params["model.timesteps"], params["model.dim"] ** 2 * params["model.depth"]
    quality = 0.9 - 0.2 * abs(np.log(params["neuron.threshold"])) + 0.02 * (seed - 1)
    anytime = [[quality * (0.5 + 0.5 * t / steps), 1e-13 * size * t] for t in range(1, steps + 1)]
    epoch = {"cpu": 1e-4 * size, "wall": 1.0}
    epochs = [{"anytime": [[a * e / of.epochs, j] for a, j in anytime], **epoch} for e in range(1, of.epochs + 1)]
    counted = {"multiply_accumulates": 10.0 * steps * params["model.dim"], "additions": 1.0 * steps * size}
    ends = {"before": {"cpu": 0.5}, "after": {"cpu": 0.2}}
    return {
        "number": number,
        "seed": seed,
        "params": params,
        "epochs": epochs,
        "operations": counted,
        "failed": None,
        **ends,
    }


def test_a_table_answers_for_what_was_not_recorded(bench):
    from table import Table

    of = bench.spaces.SETS["digits"]
    configurations = of.configurations()
    runs = [made(of, n, c, s) for n, c in enumerate(configurations[:60]) for s in range(3 if n < 10 else 1)]
    table = Table(of, runs)
    assert len(table.seeds) == 60 and len(table.repeated) == 10
    assert table.answer(configurations[70], 1).points.tolist() == table.answer(configurations[70], 1).points.tolist()
    wrong = []
    for params in configurations[100:120]:
        answer, truth = table.answer(params, 1), made(of, 0, params, 1)
        assert answer.points.shape == (of.epochs, params["model.timesteps"], 2)
        assert table.operations(params)[0] == pytest.approx(list(truth["operations"].values()))
        wrong.append(abs(answer.means[-1, -1, 0] - truth["epochs"][-1]["anytime"][-1][0]))
        off = np.log(answer.means[-1, :, 1] / [e for _, e in truth["epochs"][-1]["anytime"]])
        assert np.abs(off).max() < 0.5
    assert np.mean(wrong) < 0.1
    lucky = [table.answer(configurations[70], seed).points[-1, -1, 0] for seed in range(12)]
    assert 0.001 < np.std(lucky) < 0.1 and len(set(lucky)) > 1


def test_a_bench_goes_on_and_leaves_what_another_process_measures(bench, tmp_path, monkeypatch):
    of = bench.spaces.SETS["digits"]
    table = bench.search.Table(of, [made(of, n, c, 0) for n, c in enumerate(of.configurations()[:40])])
    monkeypatch.setattr(bench.search.Table, "load", lambda name, raw: table)
    given = SimpleNamespace(tables=["digits"], workers=[1], seeds=2, trials=3, raw=None, python=None)
    given.peers, given.json = ["random", "Optuna TPE"], tmp_path / "s.jsonl"
    (tmp_path / "s.claims").mkdir()
    measured = lambda: [(x["seed"], x["peer"]) for x in bench.record.raw(given.json)]
    with FileLock(tmp_path / "s.claims" / "digits-40-3-1-0-random"):
        bench.search.run(given)
    assert measured() == [(0, "Optuna TPE"), (1, "random"), (1, "Optuna TPE")]
    with given.json.open("a") as file:
        file.write('{"table": "digits", "ru')  # killed as it wrote
    bench.search.run(given)
    bench.search.run(given)
    assert sorted(measured()) == [(0, "Optuna TPE"), (0, "random"), (1, "Optuna TPE"), (1, "random")]


def test_silence_is_no_fires_and_chance(bench):
    import silence

    run = {"epochs": [{"firing_rate": 0.0, "anytime": [[0.5, 1e-9], [0.15, 1e-9]]}]}
    assert silence.quiet(run, 1, 10) and not silence.quiet(run, 1, 11)
    run["epochs"][0]["firing_rate"] = 1e-3
    assert not silence.quiet(run, 1, 10)


def test_ranks_given_something_else(bench):
    import proxies

    draw = np.random.default_rng(0)
    size, luck = draw.random((2, 400))
    figure, accuracy = size + 0.3 * draw.random(400), 10 ** (size + 0.3 * luck)
    assert proxies.rank(figure, accuracy) > 0.8 and abs(proxies.rank(figure, accuracy, size)) < 0.15
    assert proxies.rank(np.ones(400), accuracy) == 0


def test_patterns_tell_samples_apart_by_what_fires(bench):
    import proxies
    import torch

    from spikefront.nn.neurons import IF

    class Scaled(torch.nn.Module):
        def __init__(self, gain):
            super().__init__()
            self.gain = gain

        def forward(self, x):
            return (self.gain * x).expand(2, *x.shape)  # (T, batch, features)

    images = 0.1 + torch.rand(6, 40, generator=torch.Generator().manual_seed(0))
    net = lambda gain: torch.nn.Sequential(Scaled(gain), IF(threshold=1.0))
    apart, alike = proxies.patterns(net(1.5), images)[0], proxies.patterns(net(100.0), images)[0]
    assert apart > alike  # where all fire all samples are one


def test_runs_of_another_space_are_not_taken_for_this_one(bench, tmp_path):
    bench.record.append(tmp_path / "patches.jsonl", {"of": "another", "number": 0, "seed": 0})
    with pytest.raises(SystemExit, match="another space"):
        bench.record.known(bench.spaces.SETS["patches"], tmp_path)
