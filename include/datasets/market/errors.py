"""What can go wrong between the market API and a checked frame, and whether waiting would help."""

from include.errors import AirlockError, PermanentError


class MarketDataUnavailable(PermanentError):
    """The market API has no such data, and XNYS was open: most likely the ticker is wrong."""


class MarketDataInvalid(PermanentError):
    """An answer, or a row made from it, that the market columns cannot represent."""


class MarketApiRefused(PermanentError):
    """The market API understood and said no: the key, the plan or the address has to change."""


class MarketApiUnavailable(AirlockError):
    """The market API is rate limiting, failing or unreachable; a later attempt may heal it."""
