"""Half sentences at the end of what a model wrote."""

import pytest

from bertsum.generation.endings import whole_sentences


@pytest.mark.parametrize(
    ("text", "is_ended", "expected"),
    [
        ("One is red. Two is", True, ("One is red. Two is", "complete")),
        ("One is red. Two is", False, ("One is red.", "cut")),
        ("One is red. Two is blue. Three", False, ("One is red. Two is blue.", "cut")),
        ("One is red. Two is blue.", False, ("One is red. Two is blue.", "complete")),
        ('He said "no."', False, ('He said "no."', "complete")),
        ("One is", False, ("One is", "open")),
        ("", False, ("", "open")),
    ],
)
def test_a_half_sentence_is_left_out(text: str, is_ended: bool, expected: tuple[str, str]) -> None:
    assert whole_sentences(text, "en", is_ended=is_ended) == expected


def test_chinese() -> None:
    assert whole_sentences("天气很好。明天会", "zh", is_ended=False) == ("天气很好。", "cut")
