"""The tests; their helpers' asserts say what they compared, like those of the tests themselves."""

import pytest

pytest.register_assert_rewrite("tests.support", "tests.ingestion.ingestion_helpers")
