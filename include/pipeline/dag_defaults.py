"""What all DAGs have in common."""

from datetime import datetime, timedelta
from typing import Any

from include.alerts.callbacks import failed


def dag_defaults(owner: str = "data-platform") -> dict[str, Any]:
    """Return the arguments that every DAG gets: when it starts, its retries and timeout, and who is notified."""
    return {
        "start_date": datetime(2023, 8, 1),
        "catchup": False,
        "max_active_runs": 1,
        "on_failure_callback": failed,
        "default_args": {
            "owner": owner,
            "retries": 3,
            "retry_delay": timedelta(minutes=1),
            "execution_timeout": timedelta(minutes=30),
            "on_failure_callback": failed,
        },
    }
