"""Physics-informed neural networks: models that are trained to satisfy a differential equation."""
