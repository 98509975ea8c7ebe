"""What the mode `notebook` refuses before Jupyter is started, and the notebook that it brings."""

from __future__ import annotations

import json
import socket
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

from entrypoint import notebook
from entrypoint.common.errors import AddressInUse, NotWritable, StageMissing, UsageFailure


@pytest.fixture
def jupyter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a JupyterLab beside this Python."""
    module = ModuleType("jupyterlab")
    module.__spec__ = __spec__
    monkeypatch.setitem(sys.modules, "jupyterlab", module)


def test_without_jupyter_the_image_that_has_it_is_named() -> None:
    with pytest.raises(StageMissing) as caught:
        notebook.run(Namespace(port=8888))
    assert "--engine itrex" in caught.value.next


@pytest.mark.usefixtures("jupyter")
def test_an_empty_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(notebook.VARIABLE, "")
    with pytest.raises(UsageFailure, match="without a token"):
        notebook.run(Namespace(port=8888))


@pytest.mark.usefixtures("jupyter")
def test_a_taken_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(notebook.VARIABLE, "sesame")
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=str(port)):
            notebook.run(Namespace(port=port))
    notebook.require_port(port)


def test_the_mounted_workspace_gets_the_tutorial_and_what_is_there_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(notebook, "WORKSPACE", tmp_path)
    place = notebook.prepare() / "tutorial.ipynb"
    assert place.read_bytes() == notebook.TUTORIAL.read_bytes()
    place.write_text("mine")
    assert (notebook.prepare() / "tutorial.ipynb").read_text() == "mine"


def test_a_workspace_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "WORKSPACE", Path("/proc"))
    with pytest.raises(NotWritable, match=r"/proc/tutorial\.ipynb"):
        notebook.prepare()


def test_the_tutorial_is_for_the_kernel_itrex_and_has_not_been_run() -> None:
    tutorial = json.loads(notebook.TUTORIAL.read_text(encoding="utf-8"))
    assert tutorial["metadata"]["kernelspec"]["name"] == notebook.KERNEL
    assert not any(cell.get("outputs") for cell in tutorial["cells"])
