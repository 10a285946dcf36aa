"""What tests share lies in `helpers`; a failed assertion there says as much as one in a test."""

import pytest

pytest.register_assert_rewrite("helpers")
