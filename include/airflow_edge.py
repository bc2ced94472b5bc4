"""Where Airflow meets the plain functions: how their errors end a task, and what names a run's batch."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from uuid import UUID, uuid5

from include.errors import NothingToDo, PermanentError

P = ParamSpec("P")
R = TypeVar("R")

_BATCHES = UUID("6f1b1d0e-5d0c-4a8e-9a37-0c3a5d2f7b61")


def as_task(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function's errors end its task rightly: what no retry can heal fails at once, nothing to do skips."""

    @wraps(function)
    def task(*args: P.args, **kwargs: P.kwargs) -> R:
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

        try:
            return function(*args, **kwargs)
        except PermanentError as error:
            raise AirflowFailException(str(error)) from error
        except NothingToDo as reason:
            raise AirflowSkipException(str(reason)) from None

    return task


def batch_id(dag_run: Any) -> UUID:
    """Give the key of the batch that a DAG run writes: the same on every retry, another for every run."""
    return uuid5(_BATCHES, f"{dag_run.dag_id}/{dag_run.run_id}")
