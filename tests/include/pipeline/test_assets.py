"""What the events of publications and rollbacks say."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.datasets import DATASETS
from include.pipeline import tasks
from include.pipeline.assets import ROLLED_BACK, asset, lineage
from include.pipeline.validate import validate_batch
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give
from tests.toy import READINGS
from tests.toy.batches import DAY, GOOD, PUBLISHED, SENSORS, TaskInstance, as_batch, parameters, row, stage

pytestmark = pytest.mark.usefixtures("toys", "connected")


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, READINGS.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))


def run(run_id: str) -> Any:
    return SimpleNamespace(dag_id="toy_dag", run_id=run_id)


def validated(app: psycopg.Connection[Any], run_id: str, rows: Any = GOOD) -> UUID:
    batch_id = stage(app, rows)
    validate_batch(app, READINGS, batch_id, DAY, parameters(), TaskInstance(run_id=run_id))
    return batch_id


def test_the_event_of_a_publication_says_what_readers_see_now(app: psycopg.Connection[Any]) -> None:
    batch_id, events = validated(app, "a run"), OutletEventAccessors()

    tasks.publish(READINGS, as_batch(batch_id), run("a run"), events)

    extra = events[asset(PUBLISHED)].extra
    assert str(extra.pop("report")).endswith(".html")
    assert extra == {
        "object": PUBLISHED,
        "day": "2023-08-01",
        "batch_id": str(batch_id),
        "rows": len(SENSORS),
        "verdict": "passed",
    }


def test_the_event_of_a_rollback_is_that_of_the_batch_that_came_back(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.datasets.DATASETS", (READINGS,))
    first = validated(app, "run 1", [row("north"), row("south"), row("west")])
    tasks.publish(READINGS, as_batch(first), run("run 1"), OutletEventAccessors())
    second = validated(app, "run 2")
    tasks.publish(READINGS, as_batch(second), run("run 2"), OutletEventAccessors())
    events = OutletEventAccessors()

    tasks.roll_back(run("a rollback"), {"object": PUBLISHED, "day": "2023-08-01"}, events)

    [event] = events[ROLLED_BACK].asset_alias_events
    assert event.dest_asset_key.name == PUBLISHED
    wanted = {"batch_id": str(first), "rows": 3, "day": "2023-08-01", "rolled_back": True}
    assert {name: event.extra[name] for name in wanted} == wanted


def test_every_dataset_says_what_it_is_made_of_and_publishes_assets_of_its_names() -> None:
    for dataset in DATASETS:
        declared = lineage(dataset)
        assert declared["inlets"] != []
        assert [each.name for each in declared["outlets"]] == dataset.published_names
        assert [each.uri for each in declared["outlets"]] == [
            f"postgres://warehouse:5432/warehouse/{name.replace('.', '/')}" for name in dataset.published_names
        ]
