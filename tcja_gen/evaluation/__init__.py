"""Scores with their protocol: what is measured on what, its records, and the comparison of like records."""

from .classification import own_data
from .dispatch import evaluate
from .prediction import predict
from .protocol import compare, read_record, table, write_record
from .scores import METRICS, reference

__all__ = ["METRICS", "compare", "evaluate", "own_data", "predict", "read_record", "reference", "table", "write_record"]
