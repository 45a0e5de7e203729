"""Pictures for the report: what is drawn, and the parts that draw it while a run goes on."""
