"""The student as files that run without this library: ONNX, and ONNX in 8 bits."""
