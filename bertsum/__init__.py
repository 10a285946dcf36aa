"""Extractive summaries and sentiment of documents from one pass of a BERT-like encoder (BERTSUM).

from bertsum import Summarizer
Summarizer()("Text of a document ...").summary
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertsum.inference.summarizer import Summarizer
    from bertsum.schema import Document, Prediction

__version__ = "0.2.0"
__all__ = ["Document", "Prediction", "Summarizer", "__version__"]


def __getattr__(name: str) -> Any:
    """Imported at first use: planning and status need no torch, which takes seconds to import."""
    if name == "Summarizer":
        from bertsum.inference.summarizer import Summarizer

        return Summarizer
    if name in ("Document", "Prediction"):
        from bertsum import schema

        return getattr(schema, name)
    raise AttributeError(f"module 'bertsum' has no attribute {name!r}")
