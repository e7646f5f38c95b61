"""Models for others: files that run without this package, and places where models are published."""

from .graphs import export
from .hub import push

__all__ = ["export", "push"]
