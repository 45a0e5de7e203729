"""A stranger's plugin. Light: every command imports it."""
