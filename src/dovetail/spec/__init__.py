"""What the framework defines: hooks, kinds of component, the protocols of their parts, and limits on values."""
