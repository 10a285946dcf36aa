"""Thin commands over the library, and the only place that imports ray."""
