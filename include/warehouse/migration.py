"""One migration: a `.sql` file, run as psql would run it, and the few lines of Python by which Alembic knows it."""

import re
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.errors import PermanentError

_FILE = re.compile(r"(\d{4})_\w+\.py")
_COPY = re.compile(r"\bfrom\s+stdin\b", re.IGNORECASE)


def numbered(file: str) -> tuple[str, str | None]:
    """Return the number of a migration by its file's name, and that of the migration before: None for the first."""
    number = Path(file).name[:4]
    return number, None if number == "0001" else f"{int(number) - 1:04}"


def run_sql_beside(file: str) -> None:
    """Run the `.sql` file of the same name, in the transaction of all migrations.

    Raises PermanentError, which names the file, when Postgres refuses it.
    """
    from alembic import op

    connection: Any = op.get_bind().connection.driver_connection
    run_sql(connection, Path(file).with_suffix(".sql"))


def run_sql(connection: psycopg.Connection[Any], path: Path) -> None:
    """Run the statements of a file as they stand: nothing in them is a parameter.

    Runs in the caller's transaction. Raises PermanentError, which says what to change, when Postgres refuses a
    statement, and when a statement would end the transaction or cannot run inside one.
    """
    where = "/".join(path.parts[-3:])
    together = "all migrations are applied in one transaction, all of them or none"
    text = path.read_text()
    # Inside a DO block, Postgres refuses COMMIT and ROLLBACK, which would leave half of the migrations, and a COPY from
    # or to the client, which would leave the connection waiting.
    block = f"BEGIN EXECUTE {sql.Literal(text).as_string(connection)}; END"
    try:
        connection.execute(sql.SQL("DO {}").format(sql.Literal(block)))
    except psycopg.errors.ActiveSqlTransaction as error:
        raise PermanentError(
            f"{where}: {error.diag.message_primary}, and {together}. Leave that statement out (an index is created "
            "without CONCURRENTLY), or run it by hand as the admin."
        ) from error
    except psycopg.OperationalError:
        raise  # a lost connection or a deadlock: a later attempt may succeed
    except psycopg.Error as error:
        raise PermanentError(f"{where}{_line(text, error)}: {_message(text, error)}\nNothing was migrated.") from error


def check_numbers(folder: Path) -> None:
    """Raise PermanentError unless the migrations in a folder are numbered 0001, 0002, ..., each with its `.sql`."""
    where = "/".join(folder.parts[-2:])
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    for path in files:
        if not _FILE.fullmatch(path.name):
            raise PermanentError(f"{where}/{path.name}: name a migration like 0001_what_it_does.py.")
    for expected, path in enumerate(files, start=1):
        number = int(path.name[:4])
        if expected > 1 and number == int(files[expected - 2].name[:4]):
            raise PermanentError(
                f"{where} has two migrations {number:04}: {files[expected - 2].name} and {path.name}. Rename the one "
                f"that was merged last, with its .sql file, to {int(files[-1].name[:4]) + 1:04}_..."
            )
        if number != expected:
            raise PermanentError(f"{where}/{path.name}: its number must be {expected:04}, since none may be missing.")
    for path in folder.glob("*.sql"):
        if not path.with_suffix(".py").exists():
            raise PermanentError(f"{where}/{path.name} would never run: copy {_example(files)} to {path.stem}.py.")
    for path in files:
        if not path.with_suffix(".sql").exists():
            raise PermanentError(f"{where}/{path.name} has no {path.stem}.sql: write its SQL there.")


def _example(files: list[Path]) -> str:
    return files[0].name if files else "another dataset's 0001_....py"


def _line(text: str, error: psycopg.Error) -> str:
    position = error.diag.internal_position
    if not position or error.diag.internal_query != text:
        return ""
    return f", line {text.count(chr(10), 0, int(position) - 1) + 1}"


def _message(text: str, error: psycopg.Error) -> str:
    diag = error.diag
    refused = (
        diag.source_function == "exec_stmt_dynexecute"  # BEGIN, COMMIT, ROLLBACK, COPY, SELECT INTO
        or isinstance(error, psycopg.errors.InvalidTransactionTermination)  # COMMIT in a DO block of the file
        or (isinstance(error, psycopg.errors.SyntaxError) and _COPY.search(text))  # the rows, read as a statement
    )
    if refused:
        return (
            f"{diag.message_primary}. Leave out BEGIN, COMMIT and ROLLBACK, since all migrations are applied in one "
            "transaction. Write INSERT instead of COPY FROM STDIN, and CREATE TABLE AS instead of SELECT INTO."
        )
    return "\n".join(line for line in (diag.message_primary, diag.message_detail, diag.message_hint) if line)
