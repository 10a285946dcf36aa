"""For all tests: no limit on the time of one example, and assertions that say as much in `helpers` as in a test."""

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("helpers")
settings.register_profile("any machine", deadline=None)  # the first example may load a library
settings.load_profile("any machine")
