"""Check the declarations of all datasets: `make lint` runs this.

First against the files of the project, then against a database with all migrations, in an embedded Postgres.
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from include.errors import AirlockError


def main() -> int:
    """Print what is wrong, if anything is; returns the exit status."""
    try:
        # The declarations themselves are checked when they are imported.
        from include.datasets import DATASETS
        from include.pipeline.declarations import check_declarations
        from include.warehouse.migrate import migrate
        from local.postgres import embedded
        from local.state import State

        check_declarations(DATASETS)
        with TemporaryDirectory(prefix="airlock-check-") as folder:
            Path(folder).chmod(0o755)  # root's Postgres runs as another user, who must be able to enter
            with embedded(State(Path(folder))) as admin:
                with admin.connect(autocommit=True) as connection:
                    connection.execute("create database warehouse")
                migrate(replace(admin, dbname="warehouse").connect, {}, DATASETS)
    except AirlockError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
