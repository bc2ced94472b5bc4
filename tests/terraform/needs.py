"""What the tests of the infrastructure need beside the locked environment."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip, or fail where AIRLOCK_TERRAFORM_REQUIRED=1 says that nothing may be skipped."""
    message = f"missing: {what}"
    if os.environ.get("AIRLOCK_TERRAFORM_REQUIRED") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
