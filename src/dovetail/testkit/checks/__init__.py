"""The checks, by kind; a module is imported when a component of its kind is checked."""
