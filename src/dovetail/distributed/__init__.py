"""Several processes that train one run: which one this is, how they communicate, and what each holds of the model."""
