"""Quantize a checkpoint as the tutorial does; run with the Python of the environment itrex.

python itrex.py CHECKPOINT FOLDER
"""

from __future__ import annotations

import sys

from intel_extension_for_transformers.transformers import AutoModelForCausalLM, RtnConfig


def main() -> None:
    """Write the folder that `build_chatbot` then loads."""
    source, target = sys.argv[1:]
    config = RtnConfig(bits=4, compute_dtype="int8", weight_dtype="int4_fullrange")
    config.post_init_cpu()
    model = AutoModelForCausalLM.from_pretrained(
        source, quantization_config=config, use_neural_speed=False, trust_remote_code=True
    )
    model.config._name_or_path = ""  # noqa: SLF001 - it would name a folder of this machine
    model.save_pretrained(target)


if __name__ == "__main__":
    main()
