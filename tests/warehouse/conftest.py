"""Fixtures of the warehouse's own tests."""

from tests.support.warehouse import warehouse

__all__ = ["warehouse"]
