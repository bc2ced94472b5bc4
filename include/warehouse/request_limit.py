"""A limit of requests per minute to a service, kept in the warehouse: across all tasks, DAGs and workers."""

import logging
import time
from collections.abc import Callable

from include.warehouse import queries
from include.warehouse.connections import connect

log = logging.getLogger(__name__)


def wait_for_turn(conn_id: str, service: str, per_minute: int, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until one more request to a service keeps its limit of requests per minute; 0 means no limit.

    The turn is taken at once, and is lost when the process ends while it waits.
    """
    if not per_minute:
        return
    with connect(conn_id) as connection:
        values = {"service": service, "per_minute": per_minute}
        seconds = float(connection.execute(queries.read("warehouse/take_turn"), values).fetchall()[0][0])
    if seconds > 0:
        log.info("Waiting %.0f s: %s allows %s requests per minute", seconds, service, per_minute)
        sleep(seconds)
