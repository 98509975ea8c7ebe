#!/usr/bin/env python3
"""Begin as the tutorial does, up to one token; run with the Python of the environment itrex.

    python tutorial.py PLAN FOLDER

FOLDER is a checkpoint, which is quantized now, or what `quantize --engine itrex` saved. By its
name the extension knows what kind of model that is, so other names above it are left out.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from intel_extension_for_transformers.neural_chat import (
    GenerationConfig,
    PipelineConfig,
    build_chatbot,
)
from intel_extension_for_transformers.transformers import RtnConfig

PLAN = json.loads(sys.argv[1])  # builder.bench.PLAN


def main() -> None:
    """Build the chatbot and print the beginning of its answer."""
    folder = Path(sys.argv[2])
    os.chdir(folder.parent)
    config = PipelineConfig(
        model_name_or_path=f"./{folder.name}",
        optimization_config=RtnConfig(bits=4, compute_dtype="int8", weight_dtype="int4_fullrange"),
    )
    with redirect_stdout(sys.stderr):
        chatbot = build_chatbot(config)
        answer = chatbot.predict(query=PLAN["question"], config=GenerationConfig(max_new_tokens=1))
    print(repr(answer), flush=True)


if __name__ == "__main__":
    main()
