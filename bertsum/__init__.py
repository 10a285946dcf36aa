"""Extractive summaries and sentiment of documents from one pass of a BERT-like encoder (BERTSUM).

from bertsum import Summarizer
Summarizer()("Text of a document ...").summary
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertsum.inference.summarizer import Summarizer
    from bertsum.reports.results import read_results
    from bertsum.reports.view import show
    from bertsum.schema import Document, Prediction

__version__ = "0.2.0"
__all__ = ["Document", "Prediction", "Summarizer", "__version__", "read_results", "show"]

_MODULES = {
    "Document": "bertsum.schema",
    "Prediction": "bertsum.schema",
    "Summarizer": "bertsum.inference.summarizer",
    "read_results": "bertsum.reports.results",
    "show": "bertsum.reports.view",
}


def __getattr__(name: str) -> Any:
    """Imported at first use: planning and status need no torch, which takes seconds to import."""
    if name not in _MODULES:
        raise AttributeError(f"module 'bertsum' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
