"""A session of the warehouse: it behaves alike on every server, however that is set, and waits for nothing without end.

A setting can come from the server, the database, the role, or the role in the database, and an admin may change each at
any time. A proxy that pools transactions, such as pgbouncer, refuses settings at the start of a connection, and forgets
what a session sets, since each transaction may go to another connection of the server. So every transaction begins by
setting, for itself only, all that our SQL or our reading of its results depends on. Nobody else who uses the server
sees it.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.abc import PQGen, QueryNoTemplate
from psycopg.pq import Format
from psycopg.pq.abc import PGresult

from include.errors import AirlockError, PermanentError
from include.warehouse import queries

log = logging.getLogger(__name__)

OLDEST = 16
"""The oldest major version of Postgres that is used."""

_SETTINGS = {
    # How values are written and read.
    "client_encoding": "UTF8",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "array_nulls": "on",
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    # What a statement means. Extensions are in public, where only the admin creates anything.
    "search_path": "public",
    "role": "none",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "default_text_search_config": "pg_catalog.simple",
    "gin_fuzzy_search_limit": "0",
    "check_function_bodies": "on",
    "exit_on_error": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # How long it may last. A statement may take as long as a task; others wait for a lock while somebody publishes, and
    # a publication takes seconds. A server notices within seconds that its client has gone, and releases its locks.
    "statement_timeout": "30min",
    "lock_timeout": "5min",
    "idle_in_transaction_session_timeout": "10min",
    "client_connection_check_interval": "10s",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}
# Those that not every supported version has, with the first that has it.
_NEWER = {("restrict_nonsystem_relation_kind", ""): 16_00_04, ("transaction_timeout", "0"): 17_00_00}

# How a connection begins, and notices that the server has gone.
_CONNECTION: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
    "application_name": "airlock",
}
_ASK_SECONDS = 15.0  # less than any lock_timeout, so that a wait that times out has been asked about


class Session(psycopg.Connection[Any]):
    """A connection whose transactions are all alike: READ COMMITTED, writable, with the settings above.

    In autocommit, where a setting cannot end with its transaction, they are set once.
    """

    _begin: bytes | None = None
    _pid = 0
    _waits_for = ""

    @classmethod
    def connect(  # type: ignore[override]  # what psycopg takes besides are options
        cls, conninfo: str = "", *, autocommit: bool = False, limits: Mapping[str, str] | None = None, **options: Any
    ) -> Self:
        """Open a session; `limits` replace settings, by their names.

        Raises PermanentError when the database cannot be a warehouse, and AirlockError when it cannot be one now.
        """
        options = {**_CONNECTION, **options}
        # Statements that are prepared belong to a connection of the server, which a proxy may exchange.
        session = super().connect(conninfo, autocommit=True, **{**options, "prepare_threshold": None})
        try:
            session._check()
            session._pin({**_SETTINGS, **(limits or {})}, autocommit)
        except BaseException:
            session.close()
            raise
        return session

    def _check(self) -> None:
        """Raise an error unless this database can be a warehouse."""
        where = f"The database {self.info.dbname} on {self.info.host}:{self.info.port}"
        major = self.info.server_version // 10_000
        if major < OLDEST:
            raise PermanentError(f"{where} is Postgres {major}: use Postgres {OLDEST} or newer.")
        [(encoded, standby, replica, *_)] = self.execute(queries.read("warehouse/check_session")).fetchall()
        if not encoded:
            raise PermanentError(
                f"{where} has the encoding {self.info.parameter_status('server_encoding')}, which cannot hold every "
                "text: create it with ENCODING 'UTF8' TEMPLATE template0."
            )
        if standby:
            raise AirlockError(f"{where} is a standby, to which nobody can write: connect to its primary.")
        if replica:
            raise PermanentError(
                f"{where} sets session_replication_role to replica for {self.info.user}, so that foreign keys and "
                "triggers do nothing: set it to origin."
            )

    def _pin(self, settings: Mapping[str, str], autocommit: bool) -> None:
        newer = dict(setting for setting, since in _NEWER.items() if self.info.server_version >= since)
        one = sql.SQL("pg_catalog.set_config({}, {}, {})")
        each = sql.SQL(", ").join(
            one.format(name, value, not autocommit) for name, value in {**settings, **newer}.items()
        )
        pin = sql.SQL("select pg_catalog.pg_backend_pid(), {}").format(each)
        if autocommit:
            self.execute(pin)
            return
        self.autocommit = False
        self.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        self.read_only = self.deferrable = False
        self._begin = pin.as_bytes()

    def _exec_command(self, command: QueryNoTemplate, result_format: Format = Format.TEXT) -> PQGen[PGresult | None]:
        # psycopg has no public place where a transaction begins; tests would notice if it moved.
        result = yield from super()._exec_command(command, result_format)
        if self._begin and command == self._get_tx_start_command():
            pinned = yield from super()._exec_command(self._begin)
            if pinned and (pid := pinned.get_value(0, 0)):
                self._pid = int(pid)  # of this transaction: behind a proxy it changes
        return result

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as psycopg does; a wait for a lock that takes too long says in its error who holds it."""
        self._waits_for = ""
        try:
            return super().wait(self._asking(gen), interval, timeout)
        except psycopg.errors.LockNotAvailable as error:
            if self._waits_for:
                error.args = (f"{error}\n{self._waits_for}",)
            raise

    def _asking(self, gen: PQGen[Any]) -> PQGen[Any]:
        """Pass a generator of psycopg on; while it waits for long, ask now and then who it waits for."""
        asked, ready = time.monotonic(), None
        while True:
            try:
                state = gen.send(ready)  # type: ignore[arg-type]  # None starts it
            except StopIteration as end:
                return end.value
            ready = yield state
            if self._pid and time.monotonic() - asked > _ASK_SECONDS:
                self._waits_for = self._blockers() or self._waits_for
                asked = time.monotonic()

    def _blockers(self) -> str:
        try:
            with another(self) as observer:
                found = observer.execute(queries.read("warehouse/blockers"), [self._pid]).fetchall()
        except (psycopg.Error, AirlockError) as error:  # what is wrong is not who is asked about
            log.debug("Who holds the lock is unknown: %s", error)
            return ""
        return "\n".join(
            f"Held by process {pid} of {user} ({application or 'no application_name'}), query started "
            f"{started or 'at a time that only an admin may see'}: let it end, or end it with "
            f"select pg_terminate_backend({pid})."
            for pid, user, application, started in found
        )


def another(connection: psycopg.Connection[Any]) -> Session:
    """Open another session to the same database, as the same role."""
    options: dict[str, Any] = {**connection.info.get_parameters(), "password": connection.info.password}
    return Session.connect(**options)
