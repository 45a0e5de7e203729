"""Trackers that record Dovetail runs with TensorBoard, MLflow, and Weights & Biases."""
