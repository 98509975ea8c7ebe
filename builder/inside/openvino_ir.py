"""Rewrite a GGUF file as OpenVINO's own format; run with the Python of the environment openvino.

    python openvino_ir.py MODEL.gguf CONTEXT FOLDER

CONTEXT is the number of tokens that the model was trained for; the tokenizer remembers it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import openvino
import openvino_genai
import openvino_tokenizers  # noqa: F401 - it teaches openvino the tokenizers' operations
from openvino import opset15

CUT = 8192  # tokens of a prompt after which the library's reader would drop the beginning


def main() -> None:
    """Write openvino_model.xml and .bin into the folder, and the tokenizer into tokenizer/."""
    source, context, target = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    openvino_genai.LLMPipeline(source, "CPU", enable_save_ov_model=True)
    (target / "tokenizer").mkdir()
    for path in source.parent.glob("openvino_model.*"):
        shutil.move(path, target)
    for name in ("openvino_tokenizer", "openvino_detokenizer"):
        model = openvino.Core().read_model(source.with_name(f"{name}.xml"))
        _cut_nothing(model)
        model.set_rt_info(context, "context_length")
        openvino.save_model(model, target / "tokenizer" / f"{name}.xml", compress_to_fp16=False)


def _cut_nothing(model: openvino.Model) -> None:
    """Let a tokenizer take prompts of any length: one that is too long has to be refused."""
    for minimum in (node for node in model.get_ops() if node.get_type_name() == "Minimum"):
        for given in minimum.inputs():
            node = given.get_source_output().get_node()
            if node.get_type_name() == "Constant" and node.data == CUT:
                most = opset15.constant(np.iinfo(np.int32).max, np.int32)
                given.replace_source_output(most.output(0))


if __name__ == "__main__":
    main()
