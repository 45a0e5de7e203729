"""Callbacks: objects with lifecycle hooks, named in a run's config."""
