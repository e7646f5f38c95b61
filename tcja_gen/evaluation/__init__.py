"""Scores with their protocol: what is measured on what, its records, and the comparison of like records."""

from .classification import own_data
from .dispatch import evaluate
from .prediction import predict
from .protocol import compare, file_name, read_record, table, text, write_record
from .scores import METRICS, reference

__all__ = ["METRICS", "compare", "evaluate", "file_name", "predict", "read_record", "reference", "table", "text"]
__all__ += ["own_data", "write_record"]
