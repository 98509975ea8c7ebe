"""Weights for OpenVINO: what llama.cpp gets, rewritten by the very library that will open it."""

from builder.quantizers.openvino.needs import measure
from builder.quantizers.openvino.recipe import inputs, known_type, make

__all__ = ["inputs", "known_type", "make", "measure"]
