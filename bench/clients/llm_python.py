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

SERVED = (
    *("--model", "served", "--key", KEY),
    *("--option", "max_tokens", "64", "--option", "temperature", "0"),
)


def _llm(*words: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "extra-openai-models.yaml").write_text(MODELS)
        done = subprocess.run(
            [sys.executable, "-m", "llm", "prompt", *SERVED, *words],
            env={**os.environ, "LLM_USER_PATH": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    require(holds=not done.returncode, why=(done.stderr.strip().splitlines() or [""])[-1])
    return done.stdout


def _streamed() -> None:
    require(holds=_llm(SHORT).strip(), why="no text")


def _whole() -> None:
    require(holds=_llm(SHORT, "--no-stream").strip(), why="no text")


def _schema() -> None:
    answer = _llm(QUESTION, "--schema", "city, country")
    require(holds="city" in json.loads(answer), why="no city")


def _tools() -> None:
    answer = _llm("Which version of llm is this?", "--tool", "llm_version")
    require(holds=answer.strip(), why="no text")


attempt(
    "llm",
    {
        "llm prompt": _streamed,
        "llm prompt --no-stream": _whole,
        "llm prompt --schema": _schema,
        "llm prompt --tool": _tools,
    },
)
