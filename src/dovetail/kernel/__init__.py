"""How parts are named, found, read and built. The kernel knows no kind of part."""
