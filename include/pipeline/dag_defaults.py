"""What all DAGs have in common."""

from datetime import datetime, timedelta
from typing import Any

from include.alerts.callbacks import failed


def dag_defaults(owner: str = "data-platform", *, longest_run: timedelta = timedelta(hours=6)) -> dict[str, Any]:
    """Return the arguments that every DAG gets: when it starts, its retries and timeouts, and who is notified.

    A run that takes longer than `longest_run` fails, so that it does not hold up those after it.
    """
    return {
        "start_date": datetime(2023, 8, 1),
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": longest_run,
        "on_failure_callback": failed,
        "default_args": {
            "owner": owner,
            "retries": 3,
            "retry_delay": timedelta(minutes=1),
            "execution_timeout": timedelta(minutes=30),
            "on_failure_callback": failed,
            "show_return_value_in_logs": False,  # an answer of an API can have megabytes
        },
    }
