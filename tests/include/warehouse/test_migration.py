"""One migration's SQL: psql and the platform run it the same, and what cannot be in a migration leaves nothing."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.datasets import DATASETS
from include.errors import PermanentError
from include.warehouse import migrate
from include.warehouse.migration import check_numbers, numbered, run_sql
from local.login import Login
from local.postgres import PROGRAMS
from tests.include.warehouse.conftest import empty_database
from tests.include.warehouse.migrations import numbers, write
from tests.toy import TOYS

PLATFORM = migrate._MIGRATIONS / "versions"


def run_program(program: str, login: Login, *arguments: str | Path) -> str:
    """Run one of Postgres' own programs on a database, and return its output."""
    return subprocess.run(
        [PROGRAMS / program, f"--host={login.host}", f"--port={login.port}", f"--username={login.user}", *arguments],
        env={**os.environ, "PGPASSWORD": login.password, "PGDATABASE": login.dbname},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def dump(login: Login) -> str:
    """Return all that is in a database, as SQL, without the random key that pg_dump puts around it."""
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", run_program("pg_dump", login))


# What the file has, and a part of what is then in the database.
AS_IN_PSQL = {
    "a colon in a JSON default": (
        """create table colon (a json default '{"on":true,"at":"10:30"}');""",
        """DEFAULT '{"on":true,"at":"10:30"}'::json""",
    ),
    "a colon in a regular expression": (
        "create table expression (currency text check (currency ~ '^(?:USD|EUR)$'));",
        "(currency ~ '^(?:USD|EUR)$'::text)",
    ),
    "a colon in a comment": (
        "-- see :name, %(name)s, %s and :'quoted'\ncreate table comment (a int); /* :name */",
        "public.comment",
    ),
    "casts and slices": (
        "create table slice as select '1'::int as a, (array[1, 2, 3])[1:2] as b;",
        "1\t{1,2}\n",
    ),
    "a backslash in a text": (r"create table backslash (a text default 'C\:x\n''s');", r"DEFAULT 'C\:x\n''s'::text"),
    "an escape string": (r"create table escaped as select E'a\tb\\c' as a;", r"a\tb\\c"),
    "percent signs": (
        "create table percent (a text default '100 %, %s, %(a)s, %%');",
        "DEFAULT '100 %, %s, %(a)s, %%'",
    ),
    "braces": ("create table braces (a int[] default '{1,2}', b text default '{name} {{ x }}');", "'{name} {{ x }}'"),
    "dollar quotes": (
        "create function dollar() returns text language sql as $body$ select $$it's; :x$$ $body$;",
        "$_$ select $$it's; :x$$ $_$",
    ),
    "several statements, where each needs the one before": (
        "create table several (a int);\ninsert into several values (1), (2);\nalter table several add b int "
        "default 3;\nupdate several set b = 4 where a = 2;",
        "1\t3\n2\t4\n",
    ),
    "a DO block": (
        "DO $$\nBEGIN\n    CREATE TABLE from_a_block (a int);\nEXCEPTION WHEN duplicate_table THEN NULL;\nEND $$;",
        "public.from_a_block",
    ),
    "a query's rows, which nobody reads": (
        "select 1; create table after_query (a int); select 2, 'two';",
        "after_query",
    ),
    "other letters": ("create table letters as select 'é日本' as a;", "é日本"),
    "no semicolon at the end": ("create table unfinished (a int)", "public.unfinished"),
    "a new label of a type, used in a default": (
        "create type mood as enum ('good'); alter type mood add value 'better'; create table moods (a mood);",
        "'better'",
    ),
}


@pytest.fixture(scope="module")
def dumps(postgres: Login, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return what is in a database after run_sql ran all files, and in another after psql did."""
    folder = tmp_path_factory.mktemp("migrations")
    paths = [folder / f"{number:04}_it.sql" for number, _ in enumerate(AS_IN_PSQL, start=1)]
    for path, (text, _) in zip(paths, AS_IN_PSQL.values(), strict=True):
        path.write_text(text)
    with empty_database(postgres) as ours, empty_database(postgres) as theirs:
        with ours.connect() as connection:
            for path in paths:
                run_sql(connection, path)
        run_program("psql", theirs, "--no-psqlrc", "--set=ON_ERROR_STOP=1", *(f"--file={path}" for path in paths))
        return dump(ours), dump(theirs)


@pytest.mark.parametrize("kind", AS_IN_PSQL)
def test_a_file_does_what_it_says(dumps: tuple[str, str], kind: str) -> None:
    _, part = AS_IN_PSQL[kind]

    assert part in dumps[0]


def test_all_files_do_exactly_what_they_do_in_psql(dumps: tuple[str, str]) -> None:
    ours, theirs = dumps

    assert ours == theirs


@pytest.mark.parametrize("text", ["", "\n", "-- Nothing yet.\n"], ids=["empty", "a line", "a comment"])
def test_a_file_without_a_statement_does_nothing(app: psycopg.Connection[Any], tmp_path: Path, text: str) -> None:
    path = tmp_path / "0001_nothing.sql"
    path.write_text(text)

    run_sql(app, path)

    assert app.execute("select 1").fetchone() == (1,)


LEAVE_OUT = (
    "Leave out BEGIN, COMMIT and ROLLBACK, since all migrations are applied in one transaction. "
    "Write INSERT instead of COPY FROM STDIN, and CREATE TABLE AS instead of SELECT INTO."
)
NOT_IN_A_TRANSACTION = (
    " cannot run inside a transaction block, and all migrations are applied in one transaction, all of them or none. "
    "Leave that statement out (an index is created without CONCURRENTLY), or run it by hand as the admin."
)
TABLE = "create table before_it (a int primary key);\n"
REFUSED = {
    "CREATE INDEX CONCURRENTLY": ("create index concurrently on before_it (a);", NOT_IN_A_TRANSACTION),
    "DROP INDEX CONCURRENTLY": ("drop index concurrently before_it_pkey;", NOT_IN_A_TRANSACTION),
    "VACUUM": ("vacuum;", NOT_IN_A_TRANSACTION),
    "CREATE DATABASE": ("create database from_a_migration;", NOT_IN_A_TRANSACTION),
    "COMMIT": ("commit;", LEAVE_OUT),
    "COMMIT, and more": ("commit;\ncreate table after_it (a int);", LEAVE_OUT),
    "COMMIT and BEGIN": ("commit;\nbegin;\ncreate table after_it (a int);", LEAVE_OUT),
    "BEGIN and COMMIT": ("begin;\ncreate table after_it (a int);\ncommit;", LEAVE_OUT),
    "BEGIN": ("begin;\ncreate table after_it (a int);", LEAVE_OUT),
    "ROLLBACK": ("rollback;\ncreate table after_it (a int);", LEAVE_OUT),
    "a savepoint": ("savepoint one;\nrollback to one;", LEAVE_OUT),
    "COMMIT in a DO block": ("do $$ begin commit; end $$;", LEAVE_OUT),
    "COPY FROM STDIN": ("copy before_it from stdin;", LEAVE_OUT),
    "COPY FROM STDIN, with its rows": ("COPY before_it FROM\n  STDIN;\n1\n2\n\\.\n", LEAVE_OUT),
    "COPY TO STDOUT": ("copy before_it to stdout;", LEAVE_OUT),
    "SELECT INTO": ("select 1 as a into after_it;", LEAVE_OUT),
}


@pytest.fixture(scope="module")
def database(postgres: Login) -> Iterator[Login]:
    """Return a database in which every test leaves nothing."""
    with empty_database(postgres) as login:
        yield login


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_in_a_migration_is_refused_and_leaves_nothing(
    database: Login, tmp_path: Path, kind: str
) -> None:
    statement, message = REFUSED[kind]
    path = tmp_path / "toy" / "migrations" / "0001_it.sql"
    path.parent.mkdir(parents=True)
    path.write_text(TABLE + statement)

    with database.connect() as connection:
        connection.execute("create table earlier_migration (a int)")
        with pytest.raises(PermanentError) as refused:
            run_sql(connection, path)
        connection.rollback()  # the connection is whole
        left = connection.execute(
            "select relname from pg_class where relname in ('earlier_migration', 'before_it', 'after_it')"
        ).fetchall()

    assert str(refused.value).startswith("toy/migrations/0001_it.sql")
    assert message in str(refused.value)
    assert left == []


WRONG = {
    "a syntax error": ("select 1;\n\nselekt 2;\n", ', line 3: syntax error at or near "selekt"'),
    "a syntax error in the first line": ("selekt 2;", ', line 1: syntax error at or near "selekt"'),
    "an unknown column, after letters of more than a byte": (
        "-- é日本\ncreate table one (a int);\nselect 'é',\n    nonesuch\nfrom one;",
        ', line 4: column "nonesuch" does not exist',
    ),
    "an unknown table": ("select *\nfrom nonesuch;", ', line 2: relation "nonesuch" does not exist'),
    "an unknown column in a DO block, whose lines are its own": (
        "select 1;\nselect 2;\ndo $$\nbegin\n    perform nonesuch;\nend $$;",
        ': column "nonesuch" does not exist',
    ),
    "a value that is refused": ("select 1 / 0;", ": division by zero"),
    "a row that is refused, with the detail": (
        "create table one (a int primary key);\ninsert into one values (1), (1);",
        ': duplicate key value violates unique constraint "one_pkey"\nKey (a)=(1) already exists.',
    ),
    "an exception of its own, with the hint": (
        "do $$ begin raise exception 'no source' using hint = 'Load it first.'; end $$;",
        ": no source\nLoad it first.",
    ),
    "what Postgres cannot do": (
        "select * from other.public.nonesuch;",
        ', line 1: cross-database references are not implemented: "other.public.nonesuch"',
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_error_names_the_file_and_the_line(app: psycopg.Connection[Any], tmp_path: Path, kind: str) -> None:
    text, message = WRONG[kind]
    path = tmp_path / "toy" / "migrations" / "0001_it.sql"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    app.execute("set local search_path to pg_temp")  # where this role may create tables

    with pytest.raises(PermanentError) as refused:
        run_sql(app, path)

    assert str(refused.value) == f"toy/migrations/0001_it.sql{message}\nNothing was migrated."


def test_a_lost_connection_is_left_to_a_retry(warehouse: Login, tmp_path: Path) -> None:
    path = tmp_path / "0001_it.sql"
    path.write_text("select pg_terminate_backend(pg_backend_pid());")

    with pytest.raises(psycopg.OperationalError), warehouse.connect() as connection:
        run_sql(connection, path)


@pytest.mark.parametrize(
    ("file", "number", "before"),
    [
        ("0001_first.py", "0001", None),
        ("/a folder/0002_second.py", "0002", "0001"),
        ("0010_tenth.py", "0010", "0009"),
        ("1000_2023_08.py", "1000", "0999"),
    ],
)
def test_a_migration_has_the_number_in_its_name_and_follows_the_one_before(
    file: str, number: str, before: str | None
) -> None:
    assert numbered(file) == (number, before)


Change = Callable[[Path], object]


def both(stem: str) -> Change:
    return lambda folder: write(folder, stem, "")


def remove(pattern: str) -> Change:
    def change(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return change


MISNUMBERED: dict[str, tuple[list[Change], str]] = {
    "two with one number": (
        [both("0002_other"), both("0003_last")],
        "toy/migrations has two migrations 0002: 0002_other.py and 0002_second.py. Rename the one that was merged "
        "last, with its .sql file, to 0004_...",
    ),
    "two with the last number": (
        [both("0002_other")],
        "toy/migrations has two migrations 0002: 0002_other.py and 0002_second.py. Rename the one that was merged "
        "last, with its .sql file, to 0003_...",
    ),
    "a gap": (
        [both("0004_fourth")],
        "toy/migrations/0004_fourth.py: its number must be 0003, since none may be missing.",
    ),
    "no first": (
        [remove("0001_*")],
        "toy/migrations/0002_second.py: its number must be 0001, since none may be missing.",
    ),
    "from zero": (
        [both("0000_zeroth")],
        "toy/migrations/0000_zeroth.py: its number must be 0001, since none may be missing.",
    ),
    "SQL without Python": (
        [lambda folder: (folder / "0003_third.sql").write_text("select 1;")],
        "toy/migrations/0003_third.sql would never run: copy 0001_first.py to 0003_third.py.",
    ),
    "only SQL": (
        [remove("*.py")],
        "toy/migrations/0001_first.sql would never run: copy another dataset's 0001_....py to 0001_first.py.",
    ),
    "Python without SQL": (
        [remove("0002_second.sql")],
        "toy/migrations/0002_second.py has no 0002_second.sql: write its SQL there.",
    ),
    **{
        f"the name {stem}": (
            # With one number twice, so that a name is refused before anything is made of its number.
            [both("0002_other"), both(stem)],
            f"toy/migrations/{stem}.py: name a migration like 0001_what_it_does.py.",
        )
        for stem in ("third", "3_third", "00003_third", "0003", "0003-third", "0003_", "0003_the third", "x003_third")
    },
}


@pytest.mark.parametrize("kind", MISNUMBERED)
def test_a_folder_whose_migrations_have_no_clear_order_is_refused(tmp_path: Path, kind: str) -> None:
    changes, message = MISNUMBERED[kind]
    folder = tmp_path / "toy" / "migrations"
    for stem in ("0001_first", "0002_second"):
        write(folder, stem, "")
    check_numbers(folder)
    for change in changes:
        change(folder)

    with pytest.raises(PermanentError) as refused:
        check_numbers(folder)

    assert str(refused.value) == message


def test_an_empty_folder_and_a_package_are_in_order(tmp_path: Path) -> None:
    check_numbers(tmp_path)
    (tmp_path / "__init__.py").touch()
    check_numbers(tmp_path)


@pytest.mark.parametrize(
    "folder",
    [PLATFORM, *(dataset.folder / "migrations" for dataset in (*DATASETS, *TOYS))],
    ids=lambda folder: folder.parent.name,
)
def test_the_migrations_of_the_platform_and_of_every_dataset_are_in_order(folder: Path) -> None:
    check_numbers(folder)

    assert numbers(folder) == [f"{number:04}" for number in range(1, len(numbers(folder)) + 1)]
