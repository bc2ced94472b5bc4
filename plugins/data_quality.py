"""The quality report inside Airflow's UI: an entry in the navigation, and a button on every task that made a page.

Every Airflow process imports this file; the pages themselves, include/quality/web.py, only the API server.
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
    """The button "Quality report" of a task whose XCom has a `report`; the UI shows none for an empty link."""

    name = "Quality report"
    operators = [PythonOperator, _PythonDecoratedOperator]  # noqa: RUF012  # the base class declares it a ClassVar

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:
        """Give the address of the task's page below Airflow's own, or nothing.

        A plugin's link is asked for in the API server when somebody looks at a task; workers push only the links
        that an operator's own class defines.
        """
        value = _returned(ti_key)
        address = value.get("report") if isinstance(value, dict) else None
        root = f"{ObjectStoragePath(settings().report_root)}/"
        if not isinstance(address, str) or not address.startswith(root):
            return ""
        below = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        return f"{below}{PREFIX}/{quote(address.removeprefix(root))}"


def _returned(ti_key: "TaskInstanceKey") -> Any:
    """Read what a task pushed as its return_value, as Airflow's own links do: from the database."""
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
    except (TypeError, ValueError):  # not there, or stored as it is
        return value


class DataQualityPlugin(AirflowPlugin):
    """Tells Airflow of all this."""

    name = "data_quality"
    external_views = [  # noqa: RUF012  # Airflow removes from this list what it cannot show
        {
            "name": "Data quality",
            # Relative: below Airflow's own address, which on a deployment may have a path.
            "href": f"{PREFIX.removeprefix('/')}/",
            "destination": "nav",
            "url_route": "data-quality",
            "nav_top_level": True,
        }
    ]
    operator_extra_links = [QualityReportLink()]  # noqa: RUF012

    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """Made when asked for, which only the API server does: a scheduler or a worker has no use for FastAPI."""
        from include.quality.web import app

        return [{"app": app(), "url_prefix": PREFIX, "name": "Data quality"}]
