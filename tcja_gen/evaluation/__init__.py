"""Scores with their protocol: what is measured on what, its records, and the comparison of like records."""

from .protocol import compare, read_record, table, write_record
from .scores import METRICS, evaluate, reference

__all__ = ["METRICS", "compare", "evaluate", "read_record", "reference", "table", "write_record"]
