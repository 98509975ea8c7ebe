"""The tutorial in ITREX's image: JupyterLab, its kernel, the notebook, and the ten questions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import requests
from docker.models.containers import Container

from builder.settings import Settings
from docker import DockerClient
from tests.images import CONFINED

pytestmark = [
    pytest.mark.itrex,
    pytest.mark.parametrize("built", ["itrex"], indirect=True),
]

Run = Callable[..., CompletedProcess[str]]
CHINESE = re.compile(r"[\u4e00-\u9fff]")
PYTHON = ("--entrypoint", "/opt/llmdeploy/bin/python3")
TOKEN = "the-token-of-this-test"  # noqa: S105 - nothing else has it
# Runs the notebook with the kernel that it names, as Jupyter does, but for the answers' length.
EXECUTE = """
import nbformat
from nbclient import NotebookClient
from entrypoint import notebook
tutorial = nbformat.read(notebook.TUTORIAL, as_version=4)
shorter = [cell for cell in tutorial.cells if "max_new_tokens=256" in cell.source]
assert len(shorter) == 1
shorter[0].source = shorter[0].source.replace("256", "12")
work = notebook.prepare()
NotebookClient(tutorial, timeout=280, resources={"metadata": {"path": str(work)}}).execute()
print(nbformat.writes(tutorial))
"""


def test_the_notebook_runs_from_the_first_cell_to_the_tenth_question(run: Run) -> None:
    done = run("-c", EXECUTE, flags=PYTHON)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in json.loads(done.stdout)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [1, 2, 3, 4]
    introduced, answered = (
        "".join(
            "".join(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout"
        )
        for cell in cells[2:]
    )
    assert CHINESE.search(introduced)
    answers = re.split(r"问题[0-9]+：\n", answered)[1:]
    assert len(answers) == 10
    assert all(map(str.strip, answers))


def test_the_battery_asks_the_ten_questions(run: Run) -> None:
    done = run("battery", "--max-tokens", "16")
    assert done.returncode == 0, done.stderr
    asked = re.findall("问题([0-9]+)：", done.stdout)
    assert asked == [str(number) for number in range(1, 11)]
    assert len(CHINESE.findall(done.stdout)) > 100


def test_doctor_tells_the_extension_its_kernels_and_models(run: Run) -> None:
    done = run("doctor", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["versions"]["ITREX"] == "1.4.2"
    assert report["cpu"]["kernels"]
    assert [model["intact"] for model in report["models"]] == [True, True]


def test_the_models_are_those_of_the_tutorials_engine(run: Run) -> None:
    listed = json.loads(run("models", "--json").stdout)
    assert {each["quantization"] for each in listed} == {"int4_clip"}


def test_the_model_runs_in_the_memory_that_the_catalogue_names(run: Run, built: Settings) -> None:
    known = json.loads((built.ready_dir / "catalog.json").read_text(encoding="utf-8"))
    (small,) = (each for each in known["models"] if each["name"] == "smollm2-135m")
    tight = ["-m", str(small["memory"] + (24 << 20))]  # and what the container has before
    words = ("--model", "smollm2-135m", "--max-tokens", "8")
    done = run("chat", *words, flags=tight, text="Count: " + "one two " * 1000)
    assert done.returncode == 0, done.stderr


def test_an_empty_token_is_refused(run: Run) -> None:
    done = run("notebook", flags=["-e", "JUPYTER_TOKEN="])
    assert done.returncode == 2
    assert "without a token" in done.stderr


def test_a_taken_port_is_one_message(engine: DockerClient, lab: Container) -> None:
    entry = engine.images.get(lab.attrs["Image"]).attrs["Config"]["Entrypoint"]
    code, said = lab.exec_run([*entry, "notebook"])
    assert code == 22
    assert b"8888" in said
    assert b"Traceback" not in said


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder to be mounted, in which somebody has a file already."""
    place = tmp_path_factory.mktemp("workspace")
    place.chmod(0o777)  # a container's user writes there
    (place / "mine.txt").write_text("mine")
    return place


@pytest.fixture
def lab(engine: DockerClient, built: Settings, workspace: Path) -> Iterator[Container]:
    """Return a hardened JupyterLab of a stranger, with a work folder."""
    container = engine.containers.run(
        built.image_name,
        ["notebook"],
        detach=True,
        environment={"JUPYTER_TOKEN": TOKEN},
        volumes={str(workspace): {"bind": "/mnt/workspace"}},
        ports={"8888/tcp": ("127.0.0.1", 0)},
        **CONFINED,
    )
    try:
        deadline = time.monotonic() + 120
        while not answers(container):
            assert time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.5)
        yield container
    finally:
        container.remove(force=True)


def url(container: Container) -> str:
    container.reload()
    (port,) = container.ports["8888/tcp"] or []
    return f"http://127.0.0.1:{port['HostPort']}"


def answers(container: Container) -> bool:
    try:
        return requests.get(f"{url(container)}/api", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_jupyter_lets_who_has_the_token_work_and_nobody_else(
    lab: Container, workspace: Path
) -> None:
    address = url(lab)
    for wrong in ({}, {"token": "another"}):
        stranger = requests.get(f"{address}/api/kernelspecs", params=wrong, timeout=30)
        assert stranger.status_code == requests.codes.forbidden
    known = {"Authorization": f"token {TOKEN}"}
    specs = requests.get(f"{address}/api/kernelspecs", headers=known, timeout=30).json()
    assert specs["default"] == "itrex"
    assert specs["kernelspecs"]["itrex"]["spec"]["argv"][0] == "/opt/llmdeploy/bin/python3"
    listed = requests.get(f"{address}/api/contents", headers=known, timeout=30).json()
    assert {each["name"] for each in listed["content"]} == {"mine.txt", "tutorial.ipynb"}
    assert "build_chatbot" in (workspace / "tutorial.ipynb").read_text()
    page = requests.get(f"{address}/lab/tree/tutorial.ipynb", params={"token": TOKEN}, timeout=30)
    assert page.ok
    assert "JupyterLab" in page.text
    assert f"/lab/tree/tutorial.ipynb?token={TOKEN}" in lab.logs().decode()
    lab.stop(timeout=10)
    assert lab.wait()["StatusCode"] == 0
