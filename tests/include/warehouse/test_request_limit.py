"""The limit of requests per minute to a service, which all workers share."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from include.warehouse.request_limit import wait_for_turn
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give
from tests.toy import READINGS

Take = Callable[..., float]


@pytest.fixture
def take(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> Take:
    """Return a function that takes a turn and returns how long it would have waited."""
    give(monkeypatch, READINGS.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))

    def take(per_minute: int = 5, service: str = "a service") -> float:
        waited: list[float] = []
        wait_for_turn(READINGS.connection, service, per_minute, waited.append)
        return sum(waited)

    return take


def test_requests_up_to_the_limit_do_not_wait_and_the_next_one_waits_a_minute(take: Take) -> None:
    waited = [take(3) for _ in range(7)]

    assert waited[:3] == [0, 0, 0]
    assert all(55 < each < 62 for each in waited[3:6])
    assert 115 < waited[6] < 123


def test_no_minute_has_more_than_the_limit_however_many_ask_at_once(take: Take, warehouse: Login) -> None:
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda _: take(4), range(12)))

    with warehouse.connect() as admin:
        turns = admin.execute("select cardinality(turns) from warehouse.request_limit").fetchall()
    assert turns == [(4,)]  # what is older is not needed, and not kept
    waits = sorted(take(4) for _ in range(4))
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert 170 < waits[0] < 184  # after twelve requests, the thirteenth has to wait for the third minute to end


def test_services_do_not_wait_for_each_other(take: Take) -> None:
    assert take(1) == 0
    assert take(1, "another service") == 0
    assert take(1) > 55


def test_a_changed_limit_is_kept_from_then_on(take: Take) -> None:
    assert [take(1), take(3), take(3)] == [0, 0, 0]
    assert take(3) > 55


def test_without_a_limit_nothing_waits_and_no_warehouse_is_needed(take: Take, warehouse: Login) -> None:
    assert [take(0) for _ in range(20)] == [0] * 20
    with warehouse.connect() as admin:
        assert admin.execute("select count(*) from warehouse.request_limit").fetchall() == [(0,)]
