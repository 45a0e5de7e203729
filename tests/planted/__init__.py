"""Plugins with one defect each, which the conformance kit must find; see ``testkit/test_all.py``."""
