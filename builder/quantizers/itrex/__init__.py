"""Weights for ITREX: the folder that its `save_pretrained` writes, INT4 as in the tutorial."""

from builder.quantizers.itrex.needs import measure
from builder.quantizers.itrex.recipe import inputs, known_type, make

__all__ = ["inputs", "known_type", "make", "measure"]
