"""Parts for a training loop of your own, under the names of the documents that Dovetail was built from."""
