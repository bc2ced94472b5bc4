"""Whether data is late: the last day that is due must be what readers see."""

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

from include.airflow_edge import as_task
from include.datasets import Dataset, datasets
from include.warehouse import queries
from include.warehouse.connections import MARKET, connect

log = logging.getLogger(__name__)


def last_due_day(dataset: Dataset, now: datetime) -> date | None:
    """Give the last day whose data is due at `now`, closed days left out; None when there is none within a year."""
    today = now.astimezone(UTC).date()
    for day in (today - timedelta(days=back) for back in range(366)):
        if dataset.due(day) <= now and not dataset.closed_reason(day):
            return day
    return None


@as_task
def check_freshness(ti: Any) -> dict[str, str]:
    """Tell of every dataset whose last due day readers do not see; gives what was found of each."""
    return check(datetime.now(UTC), ti.log_url)


def check(now: datetime, link: str) -> dict[str, str]:
    """Tell of every dataset that is late at `now`; gives what was found of each.

    An object that was never published promised nothing: a new deployment, or a new view, is not late.
    """
    from include.alerts import messages, notify
    from include.alerts.incidents import Incident

    found: dict[str, str] = {}
    with connect(MARKET) as connection:
        for dataset in datasets():
            day = last_due_day(dataset, now)
            values = {"objects": list(dataset.objects), "day": day}
            shown = connection.execute(queries.read("alerts/shown"), values).fetchall()
            if day is None or not shown:
                found[dataset.name] = "never published"
            elif all(arrived for _, _, arrived in shown):
                found[dataset.name] = f"{day} is published"
            else:
                found[dataset.name] = f"{day} is late"
                incident = Incident(dataset.name, "late", day)
                latest = [f"{name} shows {last or 'nothing'}" for name, last, arrived in shown if not arrived]
                notify.alarm(connection, incident, messages.late(incident, dataset.due(day), latest, link))
            log.info("%s: %s", dataset.name, found[dataset.name])
    return found
