"""``report.html``: one self-contained page that shows a run, written from the run's records alone."""
