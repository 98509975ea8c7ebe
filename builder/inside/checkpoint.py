"""Write a GGUF file as a checkpoint of 16-bit numbers; run with the Python of env/convert.lock.

python checkpoint.py MODEL.gguf FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint


def main() -> None:
    """Write model.safetensors and config.json."""
    source, target = map(Path, sys.argv[1:])
    config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    content = load_gguf_checkpoint(str(source), return_tensors=True, model_to_load=model)
    halves = {name: data.to(torch.float16) for name, data in content["tensors"].items()}
    save_file(halves, target / "model.safetensors", metadata={"format": "pt"})
    config.architectures, config.dtype = [type(model).__name__], torch.float16
    config.save_pretrained(target)


if __name__ == "__main__":
    main()
