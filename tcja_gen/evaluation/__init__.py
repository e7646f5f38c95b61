"""Scores with their protocol, and the comparison of records.

From `evaluate` to a number: `api` makes a `request`; `dispatch` chooses the metrics; `scores` takes the images of a
subject (`subjects`), what they are compared with (`references`), and measures (`measures`).
"""

from .api import evaluate, reference
from .classification import own_data
from .dispatch import score
from .metric_names import METRICS
from .nearest import nearest_picture
from .prediction import predict
from .preparation import prepare
from .protocol import compare, file_name, read_record, table, text, write_record
from .request import Request

__all__ = ["METRICS", "Request", "compare", "evaluate", "file_name", "nearest_picture", "own_data", "predict"]
__all__ += ["prepare", "read_record", "reference", "score", "table", "text", "write_record"]
