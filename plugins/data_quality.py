"""The quality report in Airflow's UI: an entry in the navigation, and a button on every task that wrote a page.

Every Airflow process imports this file. Only the API server imports include/quality/web.py, which serves the pages.
"""

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import BaseOperatorLink, ObjectStoragePath
from airflow.sdk.configuration import conf

from include.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

PREFIX = "/data-quality"


class QualityReportLink(BaseOperatorLink):
    """The button "Quality report" of a task whose XCom has a `report`; for an empty link the UI shows no button."""

    name = "Quality report"
    operators = [PythonOperator, _PythonDecoratedOperator]  # noqa: RUF012  # the base class declares it a ClassVar

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:
        """Return the address of the task's page below Airflow's own address; empty when it has no page.

        The API server asks for a plugin's link when somebody opens a task. Workers push only the links that an
        operator's own class defines.
        """
        value = _returned(ti_key)
        address = value.get("report") if isinstance(value, dict) else None
        root = f"{ObjectStoragePath(settings().report_root)}/"
        if not isinstance(address, str) or not address.startswith(root):
            return ""
        below = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        return f"{below}{PREFIX}/{quote(address.removeprefix(root))}"


def _returned(ti_key: "TaskInstanceKey") -> Any:
    """Return what a task pushed as its return_value, read from the database as Airflow's own links do."""
    from airflow.models.xcom import XComModel  # a worker must not load the database's models
    from airflow.utils.session import create_session

    query = XComModel.get_many(
        key="return_value",
        dag_ids=ti_key.dag_id,
        run_id=ti_key.run_id,
        task_ids=ti_key.task_id,
        map_indexes=ti_key.map_index,
        limit=1,
    ).with_only_columns(XComModel.value)
    with create_session() as session:
        value: Any = session.scalar(query)
    try:
        return json.loads(value)
    except (TypeError, ValueError):  # there is no value, or it is not stored as JSON
        return value


class DataQualityPlugin(AirflowPlugin):
    """What Airflow reads: the entry in the navigation, the button, and the application that serves the pages."""

    name = "data_quality"
    external_views = [  # noqa: RUF012  # Airflow removes from this list what it cannot show
        {
            "name": "Data quality",
            # A relative address, because Airflow's own may have a path on a deployment.
            "href": f"{PREFIX.removeprefix('/')}/",
            "destination": "nav",
            "url_route": "data-quality",
            "nav_top_level": True,
        }
    ]
    operator_extra_links = [QualityReportLink()]  # noqa: RUF012

    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """Created on first use, which is in the API server only: a scheduler or a worker does not need FastAPI."""
        from include.quality.web import app

        return [{"app": app(), "url_prefix": PREFIX, "name": "Data quality"}]
