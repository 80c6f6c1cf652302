import pytest

# Its asserts say what was compared, as those of the test files do.
pytest.register_assert_rewrite("tests.providers.conformance")
