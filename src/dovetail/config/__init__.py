"""From files to one frozen RunConfig."""
