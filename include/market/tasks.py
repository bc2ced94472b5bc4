"""What each task of the two market DAGs does. The functions beside this file do the work; here they meet Airflow.

Heavy modules are imported inside the functions: Airflow parses the DAG files over and over.
"""

import logging
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from include.airflow_edge import as_task, batch_id
from include.errors import NothingToDo, PermanentError
from include.market.params import parse_tickers
from include.params import parse_day
from include.settings import settings
from include.warehouse import register
from include.warehouse.connections import MARKET, connect
from include.warehouse.publish import MARKET_DATA, STAGED, publish_market_day
from include.warehouse.register import Run

if TYPE_CHECKING:
    import pandas

    from include.market.flatten import Answer

log = logging.getLogger(__name__)

TABLE = "transformed_market_data"
CHECKPOINT = "market"


class Batch(TypedDict):
    """What one run loads: a session's day, the tickers, and the key under which its rows are staged."""

    market_date: str
    tickers: list[str]
    batch_id: str


def asked_for(dag_run: Any, params: dict[str, Any]) -> tuple[date, list[str]]:
    """Give the session and the tickers that a run loads: its param, else its interval's start, else the last session.

    Raises NothingToDo when XNYS is closed on that day, and PermanentError when the session is not over yet.
    """
    from include.market.calendar import check_completed, closed_reason, last_completed_session

    tickers = parse_tickers(params["tickers"])
    if asked := parse_day("market_date", params["market_date"]):
        day = asked
    elif dag_run.data_interval_start:
        day = dag_run.data_interval_start.astimezone(UTC).date()
    else:
        day = last_completed_session(dag_run.run_after)
    check_completed(day, datetime.now(UTC))
    if reason := closed_reason(day):
        raise NothingToDo(f"Nothing to load: {reason}.")
    return day, tickers


@as_task
def open_batch(dag_run: Any, params: dict[str, Any]) -> Batch:
    """Decide what the run loads and under which key; skips it on a closed day, fails it at once for a day to come."""
    day, tickers = asked_for(dag_run, params)
    with connect(MARKET) as connection:
        batch = register.unpublished(connection, batch_id(dag_run))
    log.info("Loading %s of %s", ", ".join(tickers), day)
    return Batch(market_date=day.isoformat(), tickers=tickers, batch_id=str(batch))


@as_task
def extract_market_data(batch: Batch) -> "list[Answer]":
    """Fetch each ticker's daily summary: the service's answers as they came."""
    from airflow.sdk import Variable

    from include.market.polygon import PolygonClient

    key = Variable.get("POLYGON_API_KEY", default=None)
    if not key:
        raise PermanentError(
            "The Airflow variable POLYGON_API_KEY is not set: add it under Admin > Variables, as the environment "
            "variable AIRFLOW_VAR_POLYGON_API_KEY, or in the secrets backend, then clear this task."
        )
    day = date.fromisoformat(batch["market_date"])
    with PolygonClient(settings().polygon_base_url, key) as client:
        return [{"ticker": ticker, "body": client.daily_summary(ticker, day)} for ticker in batch["tickers"]]


@as_task
def flatten_market_data(batch: Batch, answers: "list[Answer]") -> "pandas.DataFrame":
    """Turn the answers into one row a ticker."""
    from include.market.flatten import flatten

    return flatten(answers, date.fromisoformat(batch["market_date"]))


@as_task
def transform_market_data(batch: Batch, rows: "pandas.DataFrame") -> "pandas.DataFrame":
    """Add what is derived; gives the eight columns of the published table."""
    from include.market.transform import transform

    return transform(rows, date.fromisoformat(batch["market_date"]), batch["tickers"])


@as_task
def load_market_data(batch: Batch, rows: "pandas.DataFrame") -> int:
    """Stage the rows under the run's batch_id, where readers do not see them; gives their number.

    A row that was quarantined and repaired since takes the place of what the API says again.
    """
    from include.warehouse import queries
    from include.warehouse.load import load_batch

    with connect(MARKET) as connection:
        loaded = load_batch(connection, TABLE, UUID(batch["batch_id"]), rows)
        repaired = connection.execute(queries.read("market/load_repaired"), batch)
        if repaired.rowcount:
            log.info("%s rows that were repaired in quarantine are loaded in their repaired form", repaired.rowcount)
    return loaded


@as_task
def validate_market_data(batch: Batch, ti: Any) -> None:
    """Run the gate on the staged batch; pushes its outcome, then fails at once if the gate closed."""
    from include.quality.tasks import pass_gate

    day = date.fromisoformat(batch["market_date"])
    with connect(MARKET) as connection:
        pass_gate(
            ti,
            connection,
            CHECKPOINT,
            UUID(batch["batch_id"]),
            day,
            {CHECKPOINT: STAGED},
            {"market_dates": [day], "tickers": batch["tickers"]},
            subject=f"{', '.join(batch['tickers'])} of {day}",
        )


@as_task
def publish_market_data(batch: Batch, dag_run: Any) -> dict[str, Any]:
    """Replace the day in the published table by the validated batch, in one transaction."""
    from include.quality import report

    with connect(MARKET) as connection:
        rows = publish_market_day(
            connection,
            UUID(batch["batch_id"]),
            date.fromisoformat(batch["market_date"]),
            Run(dag_run.dag_id, dag_run.run_id),
            keep=settings().publications_kept,
        )
        connection.commit()
        report.refresh(connection, CHECKPOINT, settings().report_root)
    return {"object": MARKET_DATA, "day": batch["market_date"], "batch_id": batch["batch_id"], "rows": rows}
