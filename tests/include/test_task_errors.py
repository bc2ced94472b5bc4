"""How an error ends an Airflow task."""

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.dataset import InvalidDeclaration
from include.errors import AirlockError, NothingToDo, PermanentError
from include.task_errors import as_task


def raising(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [PermanentError("why"), InvalidDeclaration("why")])
def test_what_no_retry_can_repair_fails_the_task_at_once(error: PermanentError) -> None:
    with pytest.raises(AirflowFailException) as raised:
        as_task(raising)(error)

    assert str(raised.value) == "why"
    assert raised.value.__cause__ is error


def test_nothing_to_do_skips_the_task_and_says_why() -> None:
    with pytest.raises(AirflowSkipException) as raised:
        as_task(raising)(NothingToDo("it is Saturday"))

    assert str(raised.value) == "it is Saturday"


@pytest.mark.parametrize("error", [AirlockError("later"), ValueError("a bug"), KeyboardInterrupt()])
def test_every_other_error_is_left_to_the_retries(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        as_task(raising)(error)

    assert raised.value is error


def test_a_task_has_the_arguments_and_the_name_of_its_function() -> None:
    @as_task
    def add(one: int, *, two: int) -> int:
        """Return the sum."""
        return one + two

    assert add(1, two=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Return the sum.")
