"""Scans worked on side by side: in processes or threads of this machine, or on a Dask cluster
(https://distributed.dask.org).

On a cluster every machine must see the scans and the project's folders under the same paths.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lungct import LungError

if TYPE_CHECKING:
    from distributed import Client

Item, Result = TypeVar("Item"), TypeVar("Result")
Outcomes = Iterator[tuple[Item, Result | LungError]]
NAMED = 8  # scans that a line names before it counts the rest
MAX_PROCESSES = 61  # what Windows can wait for
WAIT_S = 10  # for the scheduler, and for a first worker
WORKER_DIED = "the process that worked on it died (out of memory?)"
PROJECT = Path(__file__).parent.parent


def add_scheduler_flag(parser: argparse.ArgumentParser) -> None:
    """The flag of the steps that a cluster can do."""
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="Dask cluster to work on: tcp://host:8786")


@dataclass(frozen=True)
class Skipped:
    """A scan (or file, or patient) that was left out, and why.

    is_fault: something is wrong with it; otherwise another scan of the patient was taken, or it is none
    """

    scan: str
    reason: str
    is_fault: bool = True


@dataclass(frozen=True)
class Warned:
    """Something unusual about a scan that was prepared all the same."""

    scan: str
    warning: str


def print_notes(skipped: list[Skipped], warned: list[Warned]) -> None:
    """A line for each scan that was left out, those with something wrong last, and for each warning."""
    for scan in sorted(skipped, key=lambda scan: (scan.is_fault, scan.scan)):
        print(f"{'skipped' if scan.is_fault else 'left out'} {scan.scan:24s} {scan.reason}")
    for scan in sorted(warned, key=lambda scan: scan.scan):
        print(f"warning {scan.scan:24s} {scan.warning}")


def count(number: int, noun: str) -> str:
    """1 scan, 2 scans."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def some_of(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def run_parallel(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    log: Path,
    scheduler: str = "",
    in_threads: bool = False,
) -> Outcomes:
    """What `work` makes of each item, in the order in which they end; an item that fails comes with its LungError.

    workers:    processes of this machine; 1 is this process
    log:        file to which the traceback of an error that nobody expected goes
    scheduler:  address of a Dask scheduler, whose workers take their place
    in_threads: workers are threads of this process; after Ctrl-C the items in hand come, then KeyboardInterrupt

    Whatever an item raises, the others go on. Raises LungError where the cluster does not answer.
    """
    if scheduler and items:
        yield from _on_cluster(work, items, log, scheduler)
    elif workers == 1 or len(items) <= 1:
        for item in items:
            yield item, _result_or_error(partial(work, item), log)
    elif in_threads:
        yield from _in_threads(work, items, workers, log)
    else:
        yield from _in_processes(work, items, workers, log)


def _result_or_error(
    call: Callable[[], Result], log: Path, worker_died: type[Exception] = BrokenProcessPool
) -> Result | LungError:
    """What a call returns, or its error as a LungError; raises `worker_died`."""
    try:
        return call()
    except worker_died:
        raise
    except LungError as error:
        return error
    except MemoryError:
        return LungError("not enough memory for it; close other programs; in steps 2 and 4, lower --workers")
    except ModuleNotFoundError as error:
        return LungError(f"{error}; run: pip install -r requirements.txt")
    except Exception as error:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.writelines(traceback.format_exception(error))
        summary = (str(error).strip() or "no message").splitlines()[0]
        return LungError(f"unexpected {type(error).__name__} ({summary}); {log} says where; please report it")


def _in_processes(work: Callable[[Item], Result], items: Sequence[Item], workers: int, log: Path) -> Outcomes:
    """Where a process dies, nobody knows of which item: those that were not done get a process each."""
    lost = []
    with _start_pool(workers) as pool:
        futures = {pool.submit(work, item): item for item in items}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], _result_or_error(future.result, log)
                except BrokenProcessPool:
                    lost.append(futures[future])
        finally:
            pool.shutdown(cancel_futures=True)
    for item in lost:
        with _start_pool(1) as pool:
            try:
                yield item, _result_or_error(pool.submit(work, item).result, log)
            except BrokenProcessPool:
                yield item, LungError(WORKER_DIED)


def _in_threads(work: Callable[[Item], Result], items: Sequence[Item], threads: int, log: Path) -> Outcomes:
    with ThreadPoolExecutor(threads) as pool:
        futures = {pool.submit(_result_or_error, partial(work, item), log): item for item in items}
        try:
            for future in as_completed(list(futures)):
                yield futures.pop(future), future.result()  # popped, so that its result may be forgotten
        except KeyboardInterrupt:
            print("\nstopping once the scans in progress are done", file=sys.stderr)
            pool.shutdown(cancel_futures=True)
            yield from ((item, future.result()) for future, item in futures.items() if not future.cancelled())
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _start_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that start afresh on every system, so that all systems behave alike."""
    return ProcessPoolExecutor(min(workers, MAX_PROCESSES), mp_context=get_context("spawn"))


@contextmanager
def single_threaded_children() -> Iterator[None]:
    """Inside the block, processes that start have one thread each for numpy's work; this one stays as it was."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _on_cluster(work: Callable[[Item], Result], items: Sequence[Item], log: Path, address: str) -> Outcomes:
    """An item whose worker dies is given to another one by the scheduler, as often as its `allowed-failures` says."""
    with _connect(address) as client:
        from distributed import KilledWorker
        from distributed import as_completed as as_completed_on_cluster

        futures = {client.submit(work, item, pure=False): item for item in items}
        for future in as_completed_on_cluster(list(futures)):
            item = futures.pop(future)  # so that the cluster may forget the result
            try:
                yield item, _result_or_error(future.result, log, KilledWorker)
            except KilledWorker:
                yield item, LungError(WORKER_DIED)


@contextmanager
def _connect(address: str) -> Iterator["Client"]:
    """A cluster that has a worker and knows this project."""
    try:
        import distributed
    except ImportError as error:
        raise LungError("--scheduler requires the package distributed; run: pip install distributed") from error
    try:
        client = distributed.Client(address, timeout=WAIT_S)
    except (OSError, ValueError) as error:
        raise LungError(f"no Dask scheduler answers at {address}; start one: dask scheduler") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_S)
            client.submit(LungError).result()
        except distributed.TimeoutError as error:
            raise LungError(f"{address} has no worker; start one: dask worker {address}") from error
        except (RuntimeError, ImportError) as error:
            raise LungError(
                f"the cluster at {address} cannot import this project; start its scheduler and its workers with "
                f"PYTHONPATH={PROJECT}"
            ) from error
        yield client
