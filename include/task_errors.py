"""How an error of ours ends an Airflow task: it fails at once, is retried, or is skipped."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from include.errors import NothingToDo, PermanentError

P = ParamSpec("P")
R = TypeVar("R")


def as_task(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function as a task's callable: PermanentError fails the task at once, NothingToDo skips it.

    Any other error is raised as it is, and Airflow retries the task.
    """

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
