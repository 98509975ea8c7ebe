"""Run llama.cpp's converter, mended in two places; run with the Python of env/convert.lock.

python converter.py CONVERTER ARGUMENTS...
"""

from __future__ import annotations

import functools
import importlib
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Become the converter."""
    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    # It asks for a table of 256 bytes at each word of Qwen's vocabulary, and each time the table is
    # made anew: that would take 100 s of 106.
    tables = importlib.import_module("transformers.convert_slow_tokenizer")
    tables.bytes_to_unicode = functools.cache(tables.bytes_to_unicode)  # type: ignore[attr-defined]
    # Qwen's configuration calls what its RMS norm adds `layer_norm_epsilon`. The converter writes
    # that as another norm's, and llama.cpp does not load a model without its own.
    qwen = importlib.import_module("conversion.qwen").QwenModel

    def set_parameters(self: object) -> None:
        super(qwen, self).set_gguf_parameters()
        self.gguf_writer.add_layer_norm_rms_eps(self.hparams["layer_norm_epsilon"])  # type: ignore[attr-defined]

    qwen.set_gguf_parameters = set_parameters
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
