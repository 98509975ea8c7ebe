"""The tutorial's two models, tiny: real architectures and tokenizers, random weights.

Their code is what the modelscope package carries of ChatGLM2 and Qwen, made to stand alone. Files
are named and cut as the publishers', so that models.toml fits them.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from builder.settings import ROOT
from entrypoint.common import gguf

CODE: Final[Mapping[str, Mapping[str, str]]] = {
    "chatglm3-6b": {
        "configuration": "configuration_chatglm",
        "text_generation": "modeling_chatglm",
        "quantization": "quantization",
        "tokenization": "tokenization_chatglm",
    },
    "qwen-7b-chat": {
        "configuration": "configuration_qwen",
        "backbone": "backbone",
        "text_generation": "modeling_qwen",
        "qwen_generation_utils": "qwen_generation_utils",
        "tokenization": "tokenization_qwen",
    },
}
FOLDERS: Final = {"chatglm3-6b": "chatglm2", "qwen-7b-chat": "qwen"}
# What ties the code to modelscope, then what was changed for Qwen 1.1 and for ChatGLM3.
PLAIN: Final = (
    (r"(?m)^from (modelscope|\.\.\.) ?.*\n", ""),
    (r"(?m)^@MODELS.*\n", ""),
    (r"(?m)^logger = .*", "import logging\nlogger = logging.getLogger(__name__)"),
    (r"TorchModel, PreTrainedModel", "PreTrainedModel"),
    (r"super\(\).__init__\(config.name_or_path, .*\n.*super\(Model, self\)", "super()"),
    (r"ChatGLM2(?=Config|Tokenizer|For)", "ChatGLM"),
    (r"QWenForTextGeneration", "QWenLMHeadModel"),
    (r"<extra_\{i\}>", "<|extra_{i}|>"),
    # Newer transformers ask for the words already while they make their part of a tokenizer.
    (r"( +super\(\).__init__\(\n +errors=[^)]*\)\n)([\s\S]*?im_end_id = .*\n)", r"\2\1"),
    (r"'sop', 'eop'\]", "'sop', 'eop', *(f'<|{role}|>' for role in ROLES)]"),
    (r"\nclass SPTokenizer", "\nROLES = 'system', 'user', 'assistant', 'observation'\n\\g<0>"),
    (
        r"( +)if index in self.index_special_tokens or ",
        r"\1if index in self.index_special_tokens: return self.index_special_tokens[index]\n\1if ",
    ),
    (r"\] or index < 0:", "] or not 0 <= index < self.sp_model.vocab_size():"),
)
AUTO: Final = {
    "chatglm3-6b": {
        "AutoConfig": "configuration_chatglm.ChatGLMConfig",
        "AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration",
        "AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
        "AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None],
    },
    "qwen-7b-chat": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
        "AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None],
    },
}
WIDTH, INNER, LAYERS, HEADS = 128, 352, 2, 4
CONFIGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "chatglm3-6b": {
        "_name_or_path": "THUDM/chatglm3-6b",  # by this llama.cpp's converter knows it
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "torch_dtype": "float16",
        "num_layers": LAYERS,
        "hidden_size": WIDTH,
        "ffn_hidden_size": INNER,
        "kv_channels": WIDTH // HEADS,
        "num_attention_heads": HEADS,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "padded_vocab_size": 1024,
        "vocab_size": 1024,
        "seq_length": 8192,
        "add_qkv_bias": True,
        "original_rope": True,
        "layernorm_epsilon": 1e-5,
        "apply_query_key_layer_scaling": True,
        "attention_softmax_in_fp32": True,
        "post_layer_norm": True,
        "rmsnorm": True,
        "use_cache": True,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    },
    "qwen-7b-chat": {
        "model_type": "qwen",
        "architectures": ["QWenLMHeadModel"],
        "torch_dtype": "bfloat16",
        "num_hidden_layers": LAYERS,
        "n_layer": LAYERS,
        "hidden_size": WIDTH,
        "n_embd": WIDTH,
        "intermediate_size": 2 * INNER,  # both halves of it
        "ffn_hidden_size": 2 * INNER,
        "num_attention_heads": HEADS,
        "n_head": HEADS,
        "kv_channels": WIDTH // HEADS,
        "max_position_embeddings": 8192,
        "seq_length": 8192,
        "vocab_size": 151_936,
        "padded_vocab_size": 151_936,
        "layer_norm_epsilon": 1e-6,
        "rotary_emb_base": 10_000,
        "pos_emb": "rotary",
        "params_dtype": "float32",
        "bf16": False,
        "fp16": False,
        "use_flash_attn": False,
        "tie_word_embeddings": False,
    },
}
PAGES: Final = ("README.zh-CN", "docs/battery", "docs/figures.zh", "docs/serve.zh", "docs/build.zh")
TEXTS: Final = ("bench/text.txt", *(f"{page}.md" for page in PAGES))
WORDS: Final = 1000  # of ChatGLM3's vocabulary

# The tutorial's own code, word for word but for the name of the folder.
SNIPPET: Final = """
from intel_extension_for_transformers.neural_chat import build_chatbot, PipelineConfig
from intel_extension_for_transformers.transformers import RtnConfig

config = PipelineConfig(model_name_or_path="./FOLDER",
                        optimization_config=RtnConfig(bits=4,
                                                      compute_dtype="int8",
                                                      weight_dtype="int4_fullrange"))

chatbot = build_chatbot(config)
response = chatbot.predict(query="请介绍同济大学。")
print(response)
"""

WRITE: Final = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
folder = Path(sys.argv[1])
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
torch.manual_seed(7)
model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
tensors = {}
for name, tensor in model.state_dict().items():
    if name.endswith("inv_freq"):
        tensors[name] = tensor
        continue
    noise = torch.randn(tensor.shape)
    noise = noise / tensor.shape[-1] ** 0.5 if noise.dim() > 1 else 0.1 * noise
    tensors[name] = (noise + name.endswith(("norm.weight", "ln_1.weight", "ln_2.weight",
                                            "ln_f.weight"))).to(config.torch_dtype)
many = 7 if config.model_type == "chatglm" else 2
form = "pytorch_model-{:05}-of-{:05}.bin" if many == 7 else "model-{:05}-of-{:05}.safetensors"
where = {name: form.format(1 + at * many // len(tensors), many) for at, name in enumerate(tensors)}
for file in set(where.values()):
    part = {name: tensor for name, tensor in tensors.items() if where[name] == file}
    if many == 7:
        torch.save(part, folder / file)
    else:
        save_file(part, folder / file, metadata={"format": "pt"})
index = folder / (form.partition("-")[0] + "." + form.rpartition(".")[2] + ".index.json")
size = sum(tensor.nbytes for tensor in tensors.values())
index.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": where}))
"""

TRAIN: Final = """
import sys
from sentencepiece import SentencePieceTrainer
folder, words, *texts = sys.argv[1:]
SentencePieceTrainer.train(input=texts, model_prefix=folder + "/tokenizer", vocab_size=int(words),
                           model_type="bpe", byte_fallback=True, character_coverage=0.98,
                           normalization_rule_name="identity", remove_extra_whitespaces=False,
                           minloglevel=2)
"""


def write(name: str, folder: Path, python: Path, qwen: Path) -> None:
    """Write the checkpoint that models.toml calls `name`, with the Python of the itrex stack.

    `qwen` is a GGUF file of Qwen2.5, whose vocabulary is Qwen's.
    """
    carried = _carried() / FOLDERS[name]
    for source, target in CODE[name].items():
        text = (carried / f"{source}.py").read_text(encoding="utf-8")
        (folder / f"{target}.py").write_text(_plain(text, CODE[name]), encoding="utf-8")
    auto = AUTO[name]
    _dump(folder / "config.json", {**CONFIGS[name], "auto_map": auto})
    kind = str(auto["AutoTokenizer"][0]).partition(".")[2]
    _dump(
        folder / "tokenizer_config.json",
        {"tokenizer_class": kind, "auto_map": {"AutoTokenizer": auto["AutoTokenizer"]}},
    )
    if name == "chatglm3-6b":
        (folder / "MODEL_LICENSE").write_text("A test's.\n", encoding="utf-8")
        texts = [str(ROOT / text) for text in TEXTS]
        run(python, TRAIN, folder, str(WORDS), *texts)
        (folder / "tokenizer.vocab").unlink()
    else:
        (folder / "LICENSE").write_text("A test's.\n", encoding="utf-8")
        _dump(folder / "generation_config.json", {"eos_token_id": 151_643, "pad_token_id": 151_643})
        _write_ranks(folder / "qwen.tiktoken", qwen)
    run(python, WRITE, folder)


def snippet(folder: str) -> str:
    """Return the tutorial's code for a model in this folder, which lies where it runs."""
    return SNIPPET.replace("FOLDER", folder)


def run(python: Path, code: str, folder: Path, *arguments: str, **env: str) -> str:
    """Run some code with the Python of the stack on a checkpoint; return what it prints."""
    alone = {"HF_HOME": str(folder.with_suffix(".home")), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code, folder, *arguments],
        env={**os.environ, **alone, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _carried() -> Path:
    found = importlib.util.find_spec("modelscope")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "models" / "nlp"


def _plain(text: str, names: Mapping[str, str]) -> str:
    for pattern, plain in PLAIN:
        text = re.sub(pattern, plain, text)
    for source, target in names.items():
        text = text.replace(f"from .{source} import", f"from .{target} import")
    return text


def _write_ranks(target: Path, qwen: Path) -> None:
    """Write Qwen's vocabulary as tiktoken has it: a word in base 64 and its rank on each line."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that GGUF leaves alone
    others = [byte for byte in range(256) if byte not in plain]
    bytes_ = {chr(byte): byte for byte in plain}
    bytes_ |= {chr(256 + place): byte for place, byte in enumerate(others)}
    header = gguf.read(qwen).metadata
    kinds = header["tokenizer.ggml.token_type"]
    words = [word for word, kind in zip(header["tokenizer.ggml.tokens"], kinds, strict=True)]
    count = kinds.index(3)  # the first of the control tokens, which are not ranked
    ranked = (bytes(bytes_[character] for character in word) for word in words[:count])
    target.write_bytes(
        b"".join(b"%b %d\n" % (base64.b64encode(word), rank) for rank, word in enumerate(ranked))
    )


def _dump(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
