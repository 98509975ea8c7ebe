"""EleutherAI's Language Model Evaluation Harness."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import lm_eval
from attempts import BASE, MODEL, attempt, require
from gguf import GGUFReader
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast


def _tokenizer(place: Path) -> Path:
    """Save the tokenizer of the model as the harness reads it; it has none of its own."""
    fields = GGUFReader(os.environ["WEIGHTS"]).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"].contents()]
    words = Tokenizer(
        BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
    )
    words.pre_tokenizer = ByteLevel(add_prefix_space=False)
    words.decoder = ByteLevelDecoder()
    end = tokens[fields["tokenizer.ggml.eos_token_id"].contents()]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=end)
    tokenizer.chat_template = fields["tokenizer.chat_template"].contents()
    tokenizer.save_pretrained(place)
    return place


def _evaluate(model: str, path: str, kind: str, **more: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "sums.jsonl"
        rows = ({"sum": f"{n} + 1 =", "answer": str(n + 1), "other": str(n + 5)} for n in range(4))
        data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        task = {
            "task": "sums",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            "output_type": kind,
            "doc_to_text": "{{sum}}",
            "doc_to_target": "{{answer}}",
            **more,
        }
        results = lm_eval.simple_evaluate(
            model=model,
            model_args={
                "model": MODEL,
                "base_url": f"{BASE}/{path}",
                "tokenizer": str(_tokenizer(Path(folder) / "tokenizer")),
                "num_concurrent": 1,
                "max_retries": 1,
                "max_length": 1024,
            },
            tasks=[task],
            task_manager=TaskManager(include_defaults=False),
            apply_chat_template=model == "local-chat-completions",
        )
    require(holds=results and results["results"]["sums"], why="no results")


def _multiple_choice() -> None:
    choice = {"doc_to_choice": ["{{answer}}", "{{other}}"], "doc_to_target": 0}
    _evaluate("local-completions", "completions", "multiple_choice", **choice)


def _until() -> None:
    limit = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}}
    _evaluate("local-completions", "completions", "generate_until", **limit)


def _chat() -> None:
    limit = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}}
    _evaluate("local-chat-completions", "chat/completions", "generate_until", **limit)


attempt(
    "lm-eval",
    {
        "local-completions, multiple_choice": _multiple_choice,
        "local-completions, generate_until": _until,
        "local-chat-completions, generate_until": _chat,
    },
)
