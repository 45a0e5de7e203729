"""Plugins with one defect each, which the conformance kit must find; see ``test_testkit_planted.py``."""
