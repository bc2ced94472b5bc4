"""
### Advanced daily dashboard refresh

Loads what the dashboards show, of one day. Five branches run side by side and do not stop each other: the market, if
it was open, by the same functions as its own DAGs; and four tables of daily operations, each exported to object storage
as Parquet, checked against its source, loaded into the analytics warehouse, checked again and published. Exports that
have become old move to the archive. If a branch fails, the run fails at its end, with one message about all branches.
Runs every day at 12:00 UTC for the day before.
"""

from airflow.sdk import CronDataIntervalTimetable, Param, TaskGroup, dag, task

from include.alerts.callbacks import failed, recovered
from include.datasets.analytics import tasks
from include.datasets.analytics.dataset import ANALYTICS, SCHEMA
from include.datasets.market import tasks as market
from include.datasets.market.dag_params import MARKET_PARAMS
from include.datasets.market.dataset import MARKET
from include.pipeline.assets import lineage
from include.pipeline.dag_defaults import dag_defaults

DEFAULTS = dag_defaults(ANALYTICS[0].owner)
DEFAULTS["default_args"]["on_failure_callback"] = None  # the task `end` reports all branches in one message


@dag(
    **DEFAULTS,
    dag_id="advanced_daily_dashboard_refresh",
    description="The market, and four tables through object storage into the analytics warehouse",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 12 * * *", timezone="UTC"),
    params={
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="Empty: the start of the run's data interval, else the day before the run.",
        ),
        "tickers": MARKET_PARAMS["tickers"],
    },
    tags=[SCHEMA],
)
def advanced_daily_dashboard_refresh():
    start = task(tasks.decide_day, task_id="start", multiple_outputs=False)()
    archive = task(tasks.archive_s3_files, trigger_rule="all_done", multiple_outputs=False)()
    end = task(
        tasks.report_outcomes,
        task_id="end",
        trigger_rule="all_done",
        multiple_outputs=False,
        on_failure_callback=failed,
        on_success_callback=recovered,
    )()

    check_market_open = task.branch(tasks.check_market_open)(MARKET.name)
    market_closed_notification = task(tasks.market_closed_notification)(MARKET.name)
    with TaskGroup("process_market_data", tooltip="From the market API to the published table") as process_market_data:
        batch = task(market.open_batch, multiple_outputs=False)(day="{{ ti.xcom_pull('start')['day'] }}")
        flat_rows = task(market.flatten_market_data)(batch, task(market.extract_market_data)(batch))
        loaded = task(market.load_market_data)(batch, task(market.transform_market_data)(batch, flat_rows))
        validated = task(market.validate_market_data)(batch)
        published = task(market.publish_market_data, multiple_outputs=False, **lineage(MARKET))(batch)
        loaded >> validated >> published
    start >> check_market_open >> [process_market_data, market_closed_notification] >> end

    for dataset in ANALYTICS:
        table = dataset.publishes[0].name
        with TaskGroup(table, tooltip=f"{dataset.reads[0]} to {dataset.label}") as group:
            (
                task(tasks.extract_to_s3, multiple_outputs=False)(table)
                >> task(tasks.validate_export)(table)
                >> task(tasks.load_to_warehouse)(table)
                >> task(tasks.validate_load)(table)
                >> task(tasks.publish, multiple_outputs=False, **lineage(dataset))(table)
            )
        start >> group >> archive >> end


advanced_daily_dashboard_refresh()
