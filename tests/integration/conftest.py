"""Fixtures of the integration tests alone."""

from tests.support.secured import secured

__all__ = ["secured"]
