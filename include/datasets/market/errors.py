"""The market's own errors. Those of its API are in include/http_client.py."""

from include.errors import PermanentError


class MarketDataInvalid(PermanentError):
    """An answer, or a row made from it, has a value that the columns of the market cannot represent."""
