"""From a checkpoint to ONNX and a TensorRT bundle, and the torch-free runtime that runs a bundle."""
