"""What is read from a model's own files."""

import json
from pathlib import Path

import pytest

from builder.models import facts
from entrypoint.common import facts as common
from entrypoint.common.catalog import SamplingAdvice
from entrypoint.common.facts import Facts
from entrypoint.common.gguf import Header

GEMMA = "{% if enable_thinking %}<|think|>{% endif %}<|channel>thought\n<channel|>"
HYBRID = "{% if enable_thinking is false %}<think>\n\n</think>{% endif %}"


def test_a_gguf_file_says_it_all() -> None:
    header = Header(
        {
            "general.architecture": "qwen3",
            "general.name": "Qwen3 4B",
            "general.license": "apache-2.0",
            "general.languages": ["zh", "en"],
            "general.sampling.temp": 0.699999988079071,
            "general.sampling.top_p": 0.800000011920929,
            "general.sampling.top_k": 20,
            "general.sampling.penalty_repeat": 1.0499999523162842,
            "tokenizer.chat_template": HYBRID,
        },
        (),
    )
    sampling = SamplingAdvice(0.7, 0.8, 20, repeat_penalty=1.05)
    assert common.of_gguf(header) == Facts("Qwen3 4B", "apache-2.0", ("zh", "en"), "off", sampling)


def test_values_of_a_wrong_kind_are_no_facts() -> None:
    strange = {"general.name": 5, "general.languages": "zh", "general.sampling.temp": "warm"}
    assert common.of_gguf(Header(strange, ())) == Facts()


@pytest.mark.parametrize(
    ("template", "think"),
    [
        ("{{ messages }}", ""),
        (HYBRID, "off"),
        (GEMMA, "off"),
        ("{{ content.split('<channel|>')[-1] }}", "on"),
        ("{{ content.split('</think>')[-1] }}{{ '<think>\\n' }}", "on"),
    ],
)
def test_a_template_tells_whether_the_model_thinks(template: str, think: str) -> None:
    assert common.thinking(template) == think


@pytest.mark.parametrize(
    ("template", "opening"),
    [("{{ messages }}", "<think>"), (HYBRID, "<think>"), (GEMMA, "<|channel>thought")],
)
def test_a_template_tells_how_a_thought_begins(template: str, opening: str) -> None:
    assert common.opening(template) == opening


def test_a_checkpoint_says_it_in_three_files(tmp_path: Path) -> None:
    advice = {"do_sample": True, "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1}
    (tmp_path / "generation_config.json").write_text(json.dumps(advice))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": HYBRID}))
    (tmp_path / "README.md").write_text("---\nlicense: mit\npipeline_tag: text\n---\n# A model\n")
    assert facts.of_checkpoint(tmp_path) == Facts(
        license="mit", think="off", sampling=SamplingAdvice(0.6, top_k=20, repeat_penalty=1.1)
    )


def test_a_model_that_is_not_sampled_gives_no_advice(tmp_path: Path) -> None:
    advice = {"do_sample": False, "temperature": 0.6}
    (tmp_path / "generation_config.json").write_text(json.dumps(advice))
    assert facts.of_checkpoint(tmp_path) == Facts()
