"""Storage backends: objects stored under keys, each appearing complete or not at all."""
