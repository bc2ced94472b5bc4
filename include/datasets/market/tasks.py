"""What each task of the two market DAGs does. The functions beside this file do the work; here they meet Airflow.

Heavy modules are imported inside the functions: Airflow parses the DAG files over and over.
"""

from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from include.datasets.market import settings
from include.datasets.market.dataset import MARKET
from include.datasets.market.params import parse_tickers
from include.errors import PermanentError
from include.pipeline import batch as batches
from include.pipeline import load, tasks
from include.pipeline.batch import Batch
from include.task_errors import as_task
from include.warehouse import request_limit

if TYPE_CHECKING:
    import pandas

    from include.datasets.market.flatten import Answer

MOST_BY_NAME = 20  # tickers; the answer with the whole market is as large as 5,000 daily summaries


@as_task
def open_batch(dag_run: Any, params: dict[str, Any], day: str | None = None) -> Batch:
    """Decide which session and tickers the run loads: its param, else its data interval, else the last session.

    `day` is for a DAG that has decided the day before, and so has no param for it.
    Skips the run on a day on which XNYS is closed; fails at once for a session that is not over yet.
    """
    from include.datasets.market.calendar import check_completed, last_completed_session

    tickers = parse_tickers(params["tickers"])
    asked = day or params["market_date"]
    session = batches.batch_day(dag_run, "market_date", asked, last_completed_session)
    check_completed(session, datetime.now(UTC))
    return batches.open_batch(MARKET, dag_run, session, {"tickers": tickers})


@as_task
def extract_market_data(batch: Batch) -> "list[Answer]":
    """Fetch each ticker's daily summary, or the whole market at once; returns the answers of the service unchanged.

    More than MOST_BY_NAME tickers are taken from the whole market: one request instead of one per ticker.
    """
    from airflow.sdk import Variable

    from include.datasets.market.client import PolygonClient

    key = Variable.get("POLYGON_API_KEY", default=None)
    if not key:
        raise PermanentError(
            "The Airflow variable POLYGON_API_KEY is not set: add it under Admin > Variables, as the environment "
            "variable AIRFLOW_VAR_POLYGON_API_KEY, or in the secrets backend, then clear this task."
        )
    day, tickers = date.fromisoformat(batch["day"]), batch["params"]["tickers"]
    admit = partial(request_limit.wait_for_turn, MARKET.connection, "the market API", settings.requests_per_minute())
    with PolygonClient(settings.polygon_base_url(), key, adjusted=settings.adjusted(), admit=admit) as client:
        if not tickers or len(tickers) > MOST_BY_NAME:
            return [{"ticker": None, "body": client.whole_market(day)}]
        return [{"ticker": ticker, "body": client.daily_summary(ticker, day)} for ticker in tickers]


@as_task
def flatten_market_data(batch: Batch, answers: "list[Answer]") -> "pandas.DataFrame":
    """Turn the answers into one row per ticker."""
    from include.datasets.market.flatten import flatten

    return flatten(answers, date.fromisoformat(batch["day"]), batch["params"]["tickers"])


@as_task
def transform_market_data(batch: Batch, rows: "pandas.DataFrame") -> "pandas.DataFrame":
    """Add the derived columns; returns the eight columns of the published table."""
    from include.datasets.market.transform import transform

    return transform(rows, date.fromisoformat(batch["day"]), batch["params"]["tickers"])


@as_task
def load_market_data(batch: Batch, rows: "pandas.DataFrame") -> int:
    """Stage the rows under the run's batch_id, where readers do not see them; returns their number."""
    return load.load(MARKET, batch, rows)


@as_task
def validate_market_data(batch: Batch, ti: Any) -> None:
    """Run the gate on the staged batch; fails at once when it closes."""
    from include.pipeline.validate import validate

    validate(MARKET, batch, ti)


@as_task
def publish_market_data(batch: Batch, dag_run: Any, outlet_events: Any) -> dict[str, Any]:
    """Replace the day in the published table with the validated batch, in one transaction."""
    return tasks.publish(MARKET, batch, dag_run, outlet_events)
