"""A model's networks as ONNX graphs, which run without PyTorch."""
