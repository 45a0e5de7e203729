"""Metrics, one idea a file; import them from their modules."""
