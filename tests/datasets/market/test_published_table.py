"""The published table as its users know it."""

from typing import Any

import psycopg

from include.datasets.market.dataset import MARKET


def test_the_columns_are_those_that_users_know(app: psycopg.Connection[Any]) -> None:
    columns = app.execute(
        "select attname::text, format_type(atttypid, atttypmod), attnotnull, atthasdef from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        [MARKET.published_name(MARKET.publishes[0])],
    ).fetchall()

    figures = ("open_price", "high_price", "low_price", "close_price", "change", "volume")
    assert columns == [
        ("market_date", "date", True, False),
        ("ticker", "text", True, False),
        *((figure, "double precision", True, False) for figure in figures),
    ]
