"""Sources, splits, loaders, collators, transforms: from files to batches."""
