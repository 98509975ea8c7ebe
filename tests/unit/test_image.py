"""The image's recipe, labels and command line, as far as they are text."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from builder import up
from builder.image import dockerfile, layers, materials, sizes
from builder.settings import ROOT
from entrypoint.common.catalog import Catalog, Model
from entrypoint.common.errors import ConfigFailure

TEMPLATE = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")

SMALL = Model(
    name="small",
    display_name="Small",
    engine="llamacpp",
    quantization="Q4_0",
    context=2048,
    memory=1,
    languages=("zh",),
    license="Apache-2.0",
    source="hub",
    revision="1",
    chat_template="",
    stop=(),
    files=(),
)
LARGE = replace(SMALL, name="large", license="LicenseRef-Large")


def instructions(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_every_model_gets_an_instruction_and_so_a_layer_of_its_own() -> None:
    text = dockerfile.render(TEMPLATE, "", ["model-small", "model-large"])
    added = [line for line in instructions(text) if line.startswith("ADD")]
    assert added == [
        "ADD base.tar /",
        "ADD env.tar /",
        "ADD model-small.tar /",
        "ADD model-large.tar /",
        "ADD data.tar /",
        "ADD code.tar /",
    ]


def test_what_changes_more_often_lies_above_what_changes_less_often() -> None:
    stages = [line for line in instructions(TEMPLATE) if line.startswith("FROM")]
    assert stages == [
        "FROM scratch AS base",
        "FROM base AS env",
        "FROM env AS models",
        "FROM models AS data",
        "FROM data AS code",
    ]


def test_a_base_from_a_registry_takes_the_place_of_ours() -> None:
    pinned = "debian@sha256:" + "0" * 64
    text = dockerfile.render(TEMPLATE, pinned, ["model-small"])
    assert instructions(text)[:2] == [f"FROM {pinned} AS base", "FROM base AS env"]
    assert "base.tar" not in text


@pytest.mark.parametrize(
    ("old", "new"),
    [("ADD base.tar /\n", "COPY base.tar /\n"), ("ADD model.tar /\n", "ADD models.tar /\n")],
)
def test_a_template_without_the_places_is_refused_and_not_taken_as_it_is(
    old: str, new: str
) -> None:
    assert old in TEMPLATE
    with pytest.raises(ConfigFailure, match="cannot be filled in"):
        dockerfile.render(TEMPLATE.replace(old, new), "debian@sha256:0", ["model-small"])


def test_the_flags_of_an_instruction_are_kept() -> None:
    linked = TEMPLATE.replace("ADD ", "ADD --link ")
    text = dockerfile.render(linked, "debian@sha256:0", ["model-small"])
    assert "ADD --link model-small.tar /\n" in text
    assert "base.tar" not in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_sizes_line_up_in_both_languages(
    language: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMDEPLOY_LANG", language)
    layers = {"base.tar": (7_000_000, 3_000_000), "model-small.tar": (360_600_000, 300_000_000)}
    Console().print(sizes.table(layers, (200, 80)))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["3.0", "300.0", "3.0", "80"]
    assert {cell_len(line) for line in lines} == {cell_len(lines[0])}


def test_the_labels_name_models_and_all_licences() -> None:
    labels = materials.labels(Catalog("small", (SMALL, LARGE)), "", "")
    assert labels["io.llmdeploy.models"] == "small,large"
    licenses = labels["org.opencontainers.image.licenses"].split(" AND ")
    assert licenses == sorted({*materials.LICENSES, "Apache-2.0", "LicenseRef-Large"})


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://git.example/team/llmdeploy.git", "https://git.example/team/llmdeploy.git"),
        ("https://me:secret@git.example/llmdeploy", "https://git.example/llmdeploy"),
        ("git@git.example:team/llmdeploy.git", ""),
        ("/home/me/llmdeploy", ""),
        ("", ""),
    ],
)
def test_the_source_label_gives_away_no_password_and_no_local_path(remote: str, shown: str) -> None:
    assert materials.public(remote) == shown


@pytest.mark.parametrize(("terminal", "streams"), [(True, "-it"), (False, "-i")])
def test_the_chat_container_is_hardened_and_speaks_the_hosts_language(
    terminal: bool, streams: str
) -> None:
    assert up.command("llmdeploy", "zh", "--model", "tiny", terminal=terminal) == [
        "docker", "run", "--rm", streams,
        "--network", "none", "--read-only", "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges", "--tmpfs", "/tmp",  # noqa: S108 - the container's
        "--env=LLMDEPLOY_LANG=zh", "llmdeploy", "chat", "--model", "tiny",
    ]  # fmt: skip


def test_layers_of_models_that_the_image_has_no_more_are_removed(tmp_path: Path) -> None:
    for name in ("env", "model-a-1.5b", "model-a-0.5b"):
        (tmp_path / "roots" / name / "models").mkdir(parents=True)
        (tmp_path / "roots" / name / "models/weights").touch()
        for suffix in ("tar", "json"):
            path = tmp_path / "layers" / f"{name}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    (tmp_path / "layers/.model-a-0.5b.tar.tmp").touch()  # what a kill has left
    (tmp_path / "receipt.json").touch()
    layers.keep(tmp_path, ["env", "model-a-0.5b"])
    assert sorted(path.name for path in (tmp_path / "layers").iterdir()) == [
        "env.json", "env.tar", "model-a-0.5b.json", "model-a-0.5b.tar"
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "roots").iterdir()) == ["env", "model-a-0.5b"]
    assert (tmp_path / "roots/env/models/weights").exists()
    assert (tmp_path / "receipt.json").exists()


def test_an_image_keeps_its_engine_whatever_the_names_of_others_begin_with(tmp_path: Path) -> None:
    for name in ("llamacpp", "llamacpp_x", "x_llamacpp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "text.py").touch()
    layers.leave_one(tmp_path, "llamacpp_x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llamacpp_x", "text.py"]
    assert list((tmp_path / "llamacpp_x").iterdir())
