"""For all tests: no limit on the time of one example, and assertions that say as much in `helpers` as in a test."""

from contextlib import suppress

import pytest

pytest.register_assert_rewrite("helpers")
with suppress(ImportError):  # a machine with a GPU may have no more than tests/gpu needs
    from hypothesis import settings

    settings.register_profile("any machine", deadline=None)  # the first example may load a library
    settings.load_profile("any machine")
