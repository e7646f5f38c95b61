"""Models for others: files that run without this package, and places where models are published."""

from .graphs import export

__all__ = ["export"]
