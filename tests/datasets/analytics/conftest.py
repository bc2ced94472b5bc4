"""Object storage for these tests."""

from tests.object_storage import folder, s3

__all__ = ["folder", "s3"]
