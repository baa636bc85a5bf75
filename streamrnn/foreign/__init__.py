"""Networks out of other libraries' files: PyTorch, Keras, ONNX, RTNeural."""
