"""Weights for ik_llama.cpp: one GGUF file, its rows interleaved as the kernels want them."""

from builder.quantizers.ik.needs import measure
from builder.quantizers.ik.recipe import inputs, known_type, make

__all__ = ["inputs", "known_type", "make", "measure"]
