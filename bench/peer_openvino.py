#!/usr/bin/env python3
"""Measure OpenVINO GenAI with a model folder; run with the Python of env/bench.lock.

Prints its first token on a line as soon as that is there, and at the end one JSON object. With a
folder that has a model.gguf it only writes OpenVINO's own format beside that.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from statistics import median

import openvino
import openvino_genai as genai

PLAN = json.loads(sys.argv[1])  # builder.bench.PLAN


def main() -> None:
    """Load, answer one short question, then measure long prompts and long answers."""
    folder = Path(sys.argv[2])
    if (folder / "model.gguf").exists():
        genai.LLMPipeline(folder / "model.gguf", "CPU", enable_save_ov_model=True)
        return
    pipe = genai.LLMPipeline(folder, "CPU", INFERENCE_NUM_THREADS=int(sys.argv[3]))
    pipe.generate(PLAN["question"], _options(1), _show)
    encoded = pipe.get_tokenizer().encode(Path(PLAN["text"]).read_text(encoding="utf-8"))
    figures = {
        "prefill": [_prefill(pipe, encoded, 300 * n) for n in range(PLAN["repeats"])],
        "decode": [_decode(pipe) for _n in range(PLAN["repeats"])],
    }
    print(json.dumps(figures), flush=True)
    os._exit(0)  # unloading takes seconds and shows nothing


def _prefill(pipe: genai.LLMPipeline, encoded: genai.TokenizedInputs, start: int) -> float:
    """Return tokens per second of a prompt of 512 tokens, to its first answer."""
    span = slice(start, start + PLAN["prefill"])
    ids, mask = (
        openvino.Tensor(each.data[:, span].copy())
        for each in (encoded.input_ids, encoded.attention_mask)
    )
    done = pipe.generate(genai.TokenizedInputs(ids, mask), _options(1))
    return 1000 * PLAN["prefill"] / done.perf_metrics.get_ttft().mean


def _decode(pipe: genai.LLMPipeline) -> float:
    """Return tokens per second of an answer of 128 tokens, after the first."""
    done = pipe.generate([PLAN["story"]], _options(PLAN["decode"]))
    return 1000 / median(done.perf_metrics.raw_metrics.m_durations) * 1000


def _options(tokens: int) -> genai.GenerationConfig:
    options = genai.GenerationConfig()
    options.max_new_tokens, options.ignore_eos, options.do_sample = tokens, True, False
    return options


def _show(piece: str) -> genai.StreamingStatus:
    print(piece, flush=True)
    return genai.StreamingStatus.RUNNING


if __name__ == "__main__":
    main()
