"""Weights for llama.cpp: one GGUF file, its tensors all of one type, written tensor by tensor."""

from builder.quantizers.llamacpp.needs import WEIGHTS, measure
from builder.quantizers.llamacpp.recipe import inputs, known_type, make

__all__ = ["WEIGHTS", "inputs", "known_type", "make", "measure"]
