"""Where objects are kept under keys, each whole or not at all."""
