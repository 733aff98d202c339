"""One's own data: from two folders or tables to a report, predictions and a model."""

__all__ = []
