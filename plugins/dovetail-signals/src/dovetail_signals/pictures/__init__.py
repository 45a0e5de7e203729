"""Pictures for the report, and the callbacks that draw them during a run."""
