"""Extractive summaries and sentiment of documents from one pass of a BERT-like encoder (BERTSUM)."""

__version__ = "0.1.0"
