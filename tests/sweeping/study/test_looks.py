"""What of a study is read again, and when."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState, create_trial

from spikefront.sweeping.study import looks as module
from spikefront.sweeping.study.looks import Looks

RUNNING, COMPLETE, WAITING = TrialState.RUNNING, TrialState.COMPLETE, TrialState.WAITING


class Stored:
    """A storage's trials, a clock, and what was asked for; a read takes a second."""

    def __init__(self, patch):
        self.states, self.asked, self.now = [], [], 0.0
        patch.setattr(module, "time", self)

    def monotonic(self):
        return self.now

    def __call__(self, ids, after):
        self.now += 1.0
        self.asked.append(sorted(ids))
        return [self.trial(i) for i in range(len(self.states)) if i in ids or i > after]

    def trial(self, i):
        values = [0.0] if self.states[i] == COMPLETE else None
        trial = create_trial(state=self.states[i], values=values)
        trial.number = trial._trial_id = i
        return trial


@pytest.fixture
def stored(monkeypatch):
    return Stored(monkeypatch)


def numbers(trials):
    return [t.number for t in trials]


def test_what_others_run_is_looked_at_for_a_share_of_the_time(stored):
    looks, stored.states = Looks(), [RUNNING, RUNNING]
    assert numbers(looks.read(stored, 0.1, [RUNNING])) == [0, 1] and looks.at == 0.0
    stored.states = [COMPLETE, RUNNING, RUNNING]
    assert numbers(looks.read(stored, 0.1, [RUNNING])) == [0, 1]  # 9 s after a read of 1 s
    stored.now = 9.9
    assert numbers(looks.read(stored, 0.1, [RUNNING])) == [0, 1] and looks.at == 0.0
    stored.now = 10.0
    assert numbers(looks.read(stored, 0.1, [RUNNING])) == [1, 2] and looks.at == 10.0
    assert numbers(looks.ended) == [0] and stored.asked == [[], [0, 1]]
    for share, at in ((1.0, 100.0), (1.0, 101.0)):  # and always where nothing is spared
        stored.now = at
        looks.read(stored, share)
        assert looks.at == at


def test_what_was_written_here_is_read_at_once(stored):
    looks, stored.states = Looks(), [RUNNING, RUNNING]
    looks.read(stored, 0.1)
    stored.states = [COMPLETE, COMPLETE, RUNNING]
    looks.touched.update({1, 2})
    assert numbers(looks.read(stored, 0.1, [COMPLETE])) == [1] and stored.asked[-1] == [1]
    assert numbers(looks.read(stored, 0.1)) == [0, 1, 2] and len(stored.asked) == 2 and not looks.touched


def test_what_is_chosen_is_as_it_is_now(stored):
    looks, stored.states = Looks(), [RUNNING, WAITING, RUNNING]
    looks.read(stored, 0.1)
    stored.states = [COMPLETE, RUNNING, COMPLETE, RUNNING]
    found = looks.read(stored, 0.1, choose=lambda t: t.number in (0, 1))
    assert [t.state for t in found] == [COMPLETE, RUNNING, RUNNING, RUNNING]


def test_trials_of_some_states_stay_in_the_order_of_their_numbers(stored):
    looks, stored.states = Looks(), [RUNNING] * 6
    looks.read(stored, 1.0, [COMPLETE, WAITING])
    for i, state in ((4, COMPLETE), (1, WAITING), (5, COMPLETE), (0, COMPLETE), (1, RUNNING), (1, COMPLETE)):
        stored.states[i] = state
        found = looks.read(stored, 1.0, [COMPLETE, WAITING])
        assert numbers(found) == [j for j, s in enumerate(stored.states) if s in (COMPLETE, WAITING)]
        found.clear()  # who asked may do with it what they like
    assert numbers(looks.ended) == [4, 5, 0, 1] and numbers(looks.read(stored, 1.0)) == list(range(6))


def test_a_read_that_fails_loses_nothing(stored):
    looks, stored.states = Looks(), [RUNNING]
    looks.read(stored, 0.1)
    looks.touched.add(0)
    stored.states = [COMPLETE]

    def fails(ids, after):
        raise OSError

    with pytest.raises(OSError):
        looks.read(fails, 0.1)
    assert numbers(looks.read(stored, 0.1, [COMPLETE])) == [0]
