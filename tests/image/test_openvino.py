"""The image of the engine openvino: as small as promised, and with the same modes and flags."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from openai import OpenAI

from builder import image as images
from builder.image import sizes
from builder.settings import Settings
from docker import DockerClient
from tests.image.test_serve import ready, url
from tests.images import CONFINED, wait_for

Run = Callable[..., CompletedProcess[str]]
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def batched(
    for_openvino: Settings,
    engine: DockerClient,  # noqa: ARG001 - these two must be there
    openvino_models_dir: Path,  # noqa: ARG001
) -> str:
    """Return the name of the image with both small models, built if it is not current."""
    images.build(for_openvino)
    return for_openvino.image_name


def test_any_user_gets_a_chinese_answer_offline(run: Run, batched: str) -> None:
    stranger = ["--user", "12345:54321"]
    asked = "请介绍同济大学。\n"
    done = run("chat", "--max-tokens", "24", flags=stranger, text=asked, name=batched)
    assert done.returncode == 0, done.stderr
    assert CHINESE.search(done.stdout)
    assert "arn" not in done.stderr, "a warning"


def test_doctor_tells_the_library_its_kernels_and_models(run: Run, batched: str) -> None:
    done = run("doctor", "--json", name=batched)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["versions"]["OpenVINO GenAI"]
    assert "FP32" in report["cpu"]["kernels"]
    assert [model["intact"] for model in report["models"]] == [True, True]


def test_the_model_runs_in_the_memory_that_the_catalogue_names(
    run: Run, batched: str, openvino_models_dir: Path
) -> None:
    known = json.loads((openvino_models_dir / "catalog.json").read_text(encoding="utf-8"))
    (small,) = (each for each in known["models"] if each["name"] == "smollm2-135m")
    tight = ["-m", str(small["memory"] + (24 << 20))]  # and what the container has before
    words = ("--model", "smollm2-135m", "--max-tokens", "8")
    done = run("chat", *words, flags=tight, text="Count: " + "one two " * 1000, name=batched)
    assert done.returncode == 0, done.stderr


def test_the_battery_asks_at_once(run: Run, batched: str) -> None:
    words = ("--model", "smollm2-135m", "--max-tokens", "8", "--parallel", "4")
    done = run("battery", *words, name=batched)
    assert done.returncode == 0, done.stderr
    assert [f"问题{n}：" in done.stdout for n in range(1, 11)] == [True] * 10


def test_one_after_the_other_the_same_questions_get_the_same_answers(
    run: Run, batched: str
) -> None:
    words = ("--model", "smollm2-135m", "--max-tokens", "24", "--parallel", "1")
    once, again = (run("battery", *words, name=batched) for _ in range(2))
    assert once.returncode == again.returncode == 0, again.stderr
    assert once.stdout == again.stdout


@pytest.mark.usefixtures("batched")
def test_it_serves_hardened_and_stops_with_success(engine: DockerClient, batched: str) -> None:
    container = engine.containers.run(
        batched,
        ["serve", "--model", "smollm2-135m", "--insecure", "--context", "1024"],
        detach=True,
        ports={"8000/tcp": ("127.0.0.1", 0)},
        **CONFINED,
    )
    try:
        wait_for(lambda: ready(container))
        with OpenAI(base_url=f"{url(container)}/v1", api_key="none", timeout=120) as client:
            stream = client.chat.completions.create(
                model="smollm2-135m",
                messages=[{"role": "user", "content": "Name three colours."}],
                max_tokens=8,
                stream=True,
            )
            assert sum(bool(event.choices[0].delta.content) for event in stream) > 1
        container.stop(timeout=20)
        assert container.wait()["StatusCode"] == 0
    finally:
        container.remove(force=True)


def test_everything_but_the_weights_is_small(for_openvino: Settings) -> None:
    tars = (for_openvino.image_dir / "layers").glob("*.tar")
    measured = [sizes.measure(tar) for tar in tars if not tar.name.startswith("model-")]
    unpacked, compressed = for_openvino.variant.bounds
    assert sum(size for size, _ in measured) <= unpacked * 10**6
    assert sum(size for _, size in measured) <= compressed * 10**6
