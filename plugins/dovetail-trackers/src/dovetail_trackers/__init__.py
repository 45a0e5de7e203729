"""Trackers that record Dovetail runs with other people's tools."""
