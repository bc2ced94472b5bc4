"""What a dataset publishes, and what it reads, as Airflow assets: others schedule on them.

A publication and a rollback emit one event per table or view. Whatever publishes nothing emits none.
"""

from typing import Any
from uuid import UUID

import psycopg
from airflow.sdk import Asset, AssetAlias

from include.dataset import Dataset
from include.warehouse import queries

ROLLED_BACK = AssetAlias("rolled_back", group="warehouse")
"""The outlet of a task that knows only when it runs which assets it changes."""


def asset(name: str) -> Asset:
    """Return the asset of `<schema>.<table>` in the warehouse, or of a system outside, which has a name without a dot.

    The host in the address is the same everywhere, since the asset is the same in every environment.
    """
    schema, _, table = name.partition(".")
    if not table:
        return Asset(name=name, group="sources")
    return Asset(name=name, uri=f"postgres://warehouse:5432/warehouse/{schema}/{table}", group=schema)


def lineage(dataset: Dataset) -> dict[str, Any]:
    """Return what the publishing task of a dataset is declared with: its inlets and outlets."""
    return {"inlets": [*map(asset, dataset.reads)], "outlets": [*map(asset, dataset.published_names)]}


def extras(
    connection: psycopg.Connection[Any], dataset: Dataset, day: str, batch_id: UUID
) -> dict[str, dict[str, Any]]:
    """Return what the events of a publication say, by published name, apart from the address of the report.

    Each has object, day (YYYY-MM-DD), batch_id, and rows and verdict, which are those of its suite: None when its
    results are no longer kept.
    """
    found = connection.execute(
        queries.read("quality/latest_validations"), {"checkpoint": dataset.name, "batch_id": batch_id}
    ).fetchall()
    verdicts = {staging: (verdict, rows) for _, staging, verdict, rows in found}
    values = {"day": day, "batch_id": str(batch_id)}
    result = {}
    for each in dataset.publishes:
        verdict, rows = verdicts.get(dataset.staging_name(each), (None, None))
        name = dataset.published_name(each)
        result[name] = {"object": name, **values, "rows": rows, "verdict": verdict}
    return result
