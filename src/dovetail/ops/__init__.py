"""The Python face of the native ops."""
