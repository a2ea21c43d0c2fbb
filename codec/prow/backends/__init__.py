"""Arithmetic on pixels, behind one Protocol: torch on any device, ONNX Runtime and numpy on the CPU."""
