"""Cells of a table at once: in processes of this machine, on a Ray cluster, or in a job of Slurm.

Every machine sees the folder of runs and the data under the same paths. A run is claimed by one
process at a time, so a cell that is submitted twice is carried out once.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from da.recipes.trials import value_of
from da.train.interrupts import exit_status, interrupt_on_sigterm

Result = TypeVar("Result")
Call = tuple[Any, ...]
RETRIES = 3  # of a cell whose machine was lost


def in_processes(
    work: Callable[..., Result], calls: Sequence[Call], *, processes: int
) -> Iterator[tuple[int, Result]]:
    """Carry calls out in new processes of this machine, and pass results on as they come.

    Args:
        work: What is called.
        calls: The arguments of each call.
        processes: How many calls are carried out at once.

    Returns:
        (number of the call, result) in the order in which the calls end.

    Raises:
        ChildProcessError: A process was killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy the engine's threads
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare_process)
    try:
        numbers = {pool.submit(_until_stopped, work, call): k for k, call in enumerate(calls)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()
    except KeyboardInterrupt:
        _stop_children()
        raise
    except BrokenProcessPool:
        raise ChildProcessError(
            "a process was killed, perhaps for want of memory. What was finished is kept, and "
            "the same command continues; fewer --processes need less memory"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _stop_children() -> None:
    """Let the processes that carry calls out end after the step they are at, with a checkpoint."""
    for child in multiprocessing.active_children():
        child.terminate()


def _until_stopped(work: Callable[..., Result], call: Call) -> Result:
    """Carry one call out; if a signal ends it, the process ends, or it would take the next call."""
    try:
        return work(*call)
    except KeyboardInterrupt as interrupt:
        os._exit(exit_status(interrupt))


def _prepare_process() -> None:
    """End this process after SIGTERM in good order, and as soon as its parent is gone."""
    interrupt_on_sigterm()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def on_ray(
    work: Callable[..., Result], calls: Sequence[Call], *, threads: int
) -> Iterator[tuple[int, Result]]:
    """Carry calls out on a Ray cluster, and pass results on as they come.

    The cluster is that of $RAY_ADDRESS, or a local one that is started here. A call whose process
    or machine is lost is submitted again, up to three times.

    Args:
        work: What is called.
        calls: The arguments of each call.
        threads: Processor cores that a call takes.

    Returns:
        (number of the call, result) in the order in which the calls end.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at $RAY_ADDRESS.
    """
    try:
        import ray
    except ImportError:
        raise ValueError(
            "--launcher ray needs Ray: pip install -e '.[ray]', or leave --launcher out"
        ) from None
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise ValueError(f"no Ray cluster at $RAY_ADDRESS: {error}") from None
    remote = ray.remote(num_cpus=threads, max_retries=RETRIES)(work)
    waiting = {remote.remote(*call): number for number, call in enumerate(calls)}
    while waiting:
        (ended, *_), _ = ray.wait(list(waiting), num_returns=1)
        yield waiting.pop(ended), ray.get(ended)


def on_slurm(
    work: Callable[..., Result], calls: Sequence[Call], *, folder: Path, options: Sequence[str]
) -> Iterator[tuple[int, Result]]:
    """Submit calls as one array job of Slurm, and pass results on as they come.

    Args:
        work: What is called.
        calls: The arguments of each call.
        folder: Where the job's script and logs go; every machine sees it.
        options: Words option=value for submitit's executor, such as timeout_min=60,
            slurm_partition=gpu, gpus_per_node=1, slurm_array_parallelism=8.

    Returns:
        (number of the call, result) in the order in which the calls end.

    Raises:
        ValueError: submitit is not installed, there is no Slurm here, or an option is unknown.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError(
            "--launcher slurm needs submitit: pip install -e '.[slurm]', or leave --launcher out"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        executor.update_parameters(**dict(map(_option, options)))
    except (RuntimeError, NameError) as error:
        raise ValueError(f"--launcher slurm: {error}") from None
    jobs = executor.map_array(work, *zip(*calls, strict=True))
    numbers = {job.job_id: number for number, job in enumerate(jobs)}
    for job in submitit.helpers.as_completed(jobs):
        yield numbers[job.job_id], job.result()


def _option(word: str) -> tuple[str, Any]:
    name, sign, text = word.partition("=")
    if not (name and sign and text):
        raise ValueError(f"slurm must be words option=value, such as timeout_min=60; got {word!r}")
    return name, value_of(text)


def with_absolute_paths(flags: Any) -> Any:
    """Flags whose paths mean the same in every folder; names that no file has stay as they are."""
    paths = {
        field.name: path.resolve()
        for field in dataclasses.fields(flags)
        if isinstance(path := getattr(flags, field.name), Path)
        and (path.exists() or field.name == "runs_dir")
    }
    return dataclasses.replace(flags, **paths)
