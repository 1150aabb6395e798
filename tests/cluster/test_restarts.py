"""When a process that was killed is started again."""

from __future__ import annotations

from spikefront.cluster.restarts import LONGEST_PAUSE, STARTS, Restarts


def test_the_pause_grows_while_lives_are_short():
    restarts = Restarts()
    assert [restarts.pause(0.1) for _ in range(8)] == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE]
    assert restarts.pause(LONGEST_PAUSE + 1) == 1
    assert restarts.pause(0.1) == 2


def test_a_process_that_can_t_live_is_given_up():
    restarts = Restarts()
    pauses = [restarts.pause(0.0) for _ in range(STARTS)]
    assert None not in pauses[:-1] and pauses[-1] is None
