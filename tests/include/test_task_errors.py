"""Where the plain functions meet Airflow."""

from types import SimpleNamespace
from uuid import UUID

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from include.airflow_edge import as_task, batch_id
from include.market.errors import MarketApiRefused, MarketApiUnavailable

from include.errors import AirlockError, NothingToDo, PermanentError


def raising(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [PermanentError("why"), MarketApiRefused("why")])
def test_what_no_retry_can_heal_fails_the_task_at_once(error: PermanentError) -> None:
    with pytest.raises(AirflowFailException) as raised:
        as_task(raising)(error)

    assert str(raised.value) == "why"
    assert raised.value.__cause__ is error


def test_nothing_to_do_skips_the_task_and_says_why() -> None:
    with pytest.raises(AirflowSkipException) as raised:
        as_task(raising)(NothingToDo("it is Saturday"))

    assert str(raised.value) == "it is Saturday"


@pytest.mark.parametrize(
    "error", [AirlockError("later"), MarketApiUnavailable("later"), ValueError("a bug"), KeyboardInterrupt()]
)
def test_every_other_error_is_left_to_the_retries(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        as_task(raising)(error)

    assert raised.value is error


def test_a_task_is_called_and_named_as_its_function() -> None:
    @as_task
    def add(one: int, *, two: int) -> int:
        """Add."""
        return one + two

    assert add(1, two=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Add.")


def test_a_runs_batch_id_is_the_same_on_every_retry_and_machine() -> None:
    run = SimpleNamespace(dag_id="market_etl__traditional", run_id="manual__2023-08-01")

    # Written down: with another key, a retry after a deployment would leave the first try's rows behind.
    assert batch_id(run) == UUID("3978f488-e10e-5565-9d3a-6e28d4eddb7c")


def test_every_run_has_a_batch_id_of_its_own() -> None:
    runs = [SimpleNamespace(dag_id=dag, run_id=run) for dag in ("a", "b", "a/b") for run in ("c", "b/c", "d")]

    assert len({batch_id(run) for run in runs if (run.dag_id, run.run_id) != ("a", "b/c")}) == len(runs) - 1
