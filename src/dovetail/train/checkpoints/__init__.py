"""The checkpoints of a run: collecting its state, saving when due, resuming, copying, loading a trained model."""
