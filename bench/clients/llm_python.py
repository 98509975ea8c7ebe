"""The command line tool llm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from attempts import BASE, KEY, MODEL, QUESTION, SHORT, attempt, require

MODELS = f"""
- model_id: served
  model_name: {MODEL}
  api_base: {BASE}
  api_key_name: served
  supports_schema: true
  supports_tools: true
"""


def _llm(*words: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "extra-openai-models.yaml").write_text(MODELS)
        done = subprocess.run(
            [sys.executable, "-m", "llm", "prompt", "--model", "served", "--key", KEY, *words],
            env={**os.environ, "LLM_USER_PATH": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    require(holds=not done.returncode, why=(done.stderr.strip().splitlines() or [""])[-1])
    return done.stdout


def _streamed() -> None:
    require(holds=_llm(SHORT, "--option", "max_tokens", "16").strip(), why="no text")


def _whole() -> None:
    words = ("--no-stream", "--option", "max_tokens", "16")
    require(holds=_llm(SHORT, *words).strip(), why="no text")


def _schema() -> None:
    words = ("--schema", "city, country", "--option", "max_tokens", "64")
    require(holds="city" in json.loads(_llm(QUESTION, *words)), why="no city")


def _tools() -> None:
    require(holds=_llm("--tool", "llm_version", "--option", "max_tokens", "64",
                       "Which version of llm is this?").strip(), why="no text")  # fmt: skip


attempt(
    "llm",
    {
        "llm prompt": _streamed,
        "llm prompt --no-stream": _whole,
        "llm prompt --schema": _schema,
        "llm prompt --tool": _tools,
    },
)
