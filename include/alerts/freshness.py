"""Whether data is late: readers must see the last day that is due."""

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

from include import datasets
from include.dataset import Dataset
from include.task_errors import as_task
from include.warehouse import queries
from include.warehouse.connections import connect

log = logging.getLogger(__name__)


def last_due_day(dataset: Dataset, now: datetime) -> date | None:
    """Return the last day whose data is due at `now`, without closed days; None when there is none within a year."""
    today = now.astimezone(UTC).date()
    for day in (today - timedelta(days=back) for back in range(366)):
        if dataset.due(day) <= now and not dataset.closed_reason(day):
            return day
    return None


@as_task
def check_freshness(ti: Any) -> dict[str, str]:
    """Report every dataset whose last due day readers do not see; returns what was found, by dataset.

    Checks all of them, and then raises the first error that a dataset's check raised.
    """
    found: dict[str, str] = {}
    errors: list[Exception] = []
    for dataset in datasets.DATASETS:
        try:
            found[dataset.name] = check(dataset, datetime.now(UTC), ti.log_url)
        except Exception as error:  # a declaration or a connection of this dataset only
            log.exception("%s could not be checked", dataset.name)
            errors.append(error)
    if errors:
        raise errors[0]
    return found


def check(dataset: Dataset, now: datetime, link: str) -> str:
    """Report a dataset if it is late at `now`; returns what was found.

    An object that was never published cannot be late: it belongs to a new deployment, or is a new view.
    """
    from include.alerts import messages, notify
    from include.alerts.incidents import Incident

    day = last_due_day(dataset, now)
    with connect(dataset.connection) as connection:
        values = {"objects": dataset.published_names, "day": day}
        published = connection.execute(queries.read("alerts/published"), values).fetchall()
        if day is None or not published:
            found = "never published"
        elif all(arrived for _, _, arrived in published):
            found = f"{day} is published"
        else:
            found = f"{day} is late"
            latest = [f"{name} shows {last or 'nothing'}" for name, last, arrived in published if not arrived]
            incident = Incident(dataset.name, "late", day)
            notify.alarm(connection, incident, messages.late(incident, dataset.due(day), latest, link))
    log.info("%s: %s", dataset.name, found)
    return found
