"""Reading what comes next while the device computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Job, Result = TypeVar("Job"), TypeVar("Result")


@contextmanager
def read_ahead(read: Callable[[Job], Result], jobs: Iterable[Job], threads: int) -> Iterator[Iterator[Result]]:
    """`read(job)` of each job, in the order of the jobs, read by so many threads; with none, when it is asked for.

    At most `threads` + 1 results are read or waiting. What `read` raises is raised here, in its turn. However the
    block ends, also by Ctrl-C, no thread goes on after it.
    """
    if not threads:
        yield map(read, jobs)
        return
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="read_ahead") as pool:
        try:
            yield _in_order(pool, read, iter(jobs), waiting, threads)
        finally:
            for future in waiting:
                future.cancel()


def _in_order(pool, read, jobs: Iterator, waiting: deque[Future], threads: int) -> Iterator:
    for job in jobs:
        waiting.append(pool.submit(read, job))
        if len(waiting) > threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
