"""Publishers that are killed at random moments, while readers look: nobody ever sees a part of a day.

AIRLOCK_FAULT_ROUNDS says how many rounds (60 by default), AIRLOCK_FAULT_SEED repeats the ones of an earlier run.
"""

import os
import random
import time
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from typing import Any
from uuid import UUID, uuid4

import pandas
import psycopg
import pytest

from include.pipeline.load import load_batch
from include.warehouse.roles import APP, READER
from local.login import Login
from local.state import State
from tests.faults.catalogue import Outcome, record
from tests.include.warehouse.concurrency import PATIENCE
from tests.toy.batches import DAY, PUBLISHED, STAGING, publish, registered, roll_back

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("AIRLOCK_FAULT_ROUNDS") or 60)
SEED = int(os.environ.get("AIRLOCK_FAULT_SEED") or random.SystemRandom().randrange(2**32))
ROWS = 300
FORK = get_context("fork")


def replace_day(app: Login, value: float, batch_id: UUID) -> None:
    """Load a batch whose rows have one value, and publish it."""
    sensors = [f"s{number:03}" for number in range(ROWS)]
    frame = pandas.DataFrame({"day": DAY, "sensor": sensors, "value": value})
    with app.connect() as connection:
        load_batch(connection, STAGING, batch_id, frame)
        connection.commit()
        publish(connection, batch_id, f"run {value:g}")


def go_back(app: Login, value: float, _: UUID) -> None:
    """Roll the day back."""
    with app.connect() as connection:
        roll_back(connection, f"rollback {value:g}")


def read_until(reader: Login, stop: Any, reads: Any, torn: Any) -> None:
    """Count reads, and those that see a part of a day, no row, or two states in one transaction."""
    query = f"select count(*), count(distinct value), min(value) from {PUBLISHED} where day = '{DAY}'".encode()
    with reader.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        while not stop.is_set():
            with connection.transaction():
                first, second = (connection.execute(query).fetchone() for _ in range(2))
            reads.value += 2
            torn.value += first != second or first is None or first[:2] != (ROWS, 1)


def kill_after(process: ForkProcess, seconds: float) -> bool:
    """Kill a process at a moment of its work, unless it ends before; returns whether it was killed."""
    process.start()
    process.join(seconds)
    killed = process.is_alive()
    process.kill()
    process.join(PATIENCE)
    return killed


def test_killed_publishers_and_rollbacks_never_show_a_part_of_a_day(warehouse: Login, state: State) -> None:
    chance = random.Random(SEED)  # noqa: S311 - it chooses moments
    app, reader = (warehouse.as_role(role, state.secrets[role], warehouse.dbname) for role in (APP, READER))
    values = {}
    for number in range(2):  # something to see, and something to go back to
        values[batch_id := uuid4()] = float(number)
        started = time.monotonic()
        assert not kill_after(FORK.Process(target=replace_day, args=(app, float(number), batch_id)), PATIENCE)
    usual = time.monotonic() - started
    begin = time.monotonic()
    stop, reads, torn = FORK.Event(), FORK.Value("q", 0), FORK.Value("q", 0)
    readers = FORK.Process(target=read_until, args=(reader, stop, reads, torn))
    readers.start()
    killed = 0
    try:
        with app.connect(autocommit=True) as connection:
            for number in range(2, ROUNDS + 2):
                values[batch_id := uuid4()] = float(number)
                work = chance.choices((replace_day, go_back), (3, 1))[0]
                killed += kill_after(
                    FORK.Process(target=work, args=(app, float(number), batch_id)), chance.uniform(0, 2 * usual)
                )
                # The register and the table agree, whatever was interrupted.
                with connection.transaction():
                    connection.execute("set transaction isolation level repeatable read")
                    [current] = [line for line in registered(connection) if line.is_current]
                    found = connection.execute(f"select distinct value from {PUBLISHED}".encode()).fetchall()
                assert found == [(values[current.batch_id],)], f"round {number}, AIRLOCK_FAULT_SEED={SEED}"
    finally:
        stop.set()
        readers.join(PATIENCE)
    summary = f"{killed} of {ROUNDS} publishers killed, {reads.value:,} reads (seed {SEED})"
    record(Outcome(summary, "no part of a day", f"{torn.value} torn or empty reads", time.monotonic() - begin))
    assert reads.value > 0
    assert killed > 0
    assert torn.value == 0, f"AIRLOCK_FAULT_SEED={SEED}"
