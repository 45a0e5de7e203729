"""A third-party plugin. It imports nothing heavy, because every command imports it."""
