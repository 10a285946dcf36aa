"""What becomes of a text that the model could not end within its longest length.

- `complete`: the model ended it, or it ends at a sentence's end all the same.
- `cut`: the half sentence at its end was left out.
- `open`: its first sentence has no end; it stays as it is.
"""

import re

from bertsum.text.sentences import split_sentences

COMPLETE, CUT, OPEN = "complete", "cut", "open"

_SENTENCE_END = re.compile(r"[.!?…。！？।؟۔][\"'”’»)\]」』]*$")


def whole_sentences(text: str, language: str, *, is_ended: bool) -> tuple[str, str]:
    """The text without a half sentence at its end, and its ending.

    `is_ended`: whether the model ended it.
    """
    if is_ended or _SENTENCE_END.search(text):
        return text, COMPLETE
    spans = split_sentences(text, language)
    if len(spans) < 2:
        return text, OPEN
    return text[: spans[-2][1]], CUT
