"""Physics-informed neural networks (PINNs), which are trained to satisfy a differential equation."""
