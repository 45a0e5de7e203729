"""Trackers: where else a run is recorded, besides its own folder."""
