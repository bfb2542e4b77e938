"""What is read ahead comes in order, is no more than said, and ends with the block."""

import threading
import time

import pytest

from lungct.training.read_ahead import read_ahead


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_the_order_of_the_jobs(threads):
    def read(job: int) -> int:
        time.sleep(0.002 * (job % 3))  # later ones are done earlier
        return job * job

    with read_ahead(read, range(20), threads) as results:
        assert list(results) == [job * job for job in range(20)]
    with read_ahead(read, [], threads) as results:
        assert list(results) == []


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_no_more_is_read_than_said(threads):
    started = []
    with read_ahead(started.append, range(50), threads) as results:
        for taken in range(1, 11):
            next(results)
            time.sleep(0.002)
            assert taken <= len(started) <= taken + threads
    at_the_end = len(started)
    time.sleep(0.02)
    assert len(started) == at_the_end <= 10 + threads


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_is_raised_in_its_turn(threads):
    def read(job: int) -> int:
        if job == 3:
            raise ValueError("slice 3 cannot be read")
        return job

    with read_ahead(read, range(9), threads) as results:
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="slice 3"):
            next(results)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_no_thread_is_left_when_the_block_is_left(stop):
    before = threading.active_count()

    def leave() -> None:
        with read_ahead(lambda job: time.sleep(0.01), range(1000), 3) as results:
            next(results)
            assert threading.active_count() > before
            raise stop

    with pytest.raises(stop):
        leave()
    assert threading.active_count() == before
