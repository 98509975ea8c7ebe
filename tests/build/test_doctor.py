"""The doctor with the real engine and models, healthy and not."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from builder import doctor
from builder.settings import Settings
from entrypoint.common import catalog, machine
from entrypoint.common.catalog import Catalog
from entrypoint.common.errors import UnsupportedCpu
from entrypoint.engines.llamacpp import cpu

Run = Callable[..., "CompletedProcess[str]"]
NAME = "smollm2-135m"


@pytest.fixture
def models(models_dir: Path, tmp_path: Path) -> Path:
    """Return a folder with a copy of the small model, which is the default there."""
    small = catalog.load(models_dir).find(NAME)
    shutil.copytree(models_dir / NAME, tmp_path / NAME)
    catalog.dump(Catalog(NAME, (small,)), tmp_path)
    return tmp_path


def test_a_healthy_machine_is_told_to_people_and_to_programs(run: Run, models_dir: Path) -> None:
    told = run("doctor")
    assert (told.returncode, told.stderr) == (0, "")
    assert all(line.startswith("ok ") for line in told.stdout.splitlines())
    report = json.loads(run("doctor", "--json").stdout)
    assert list(report) == ["versions", "cpu", "threads", "memory", "scratch", "models"]
    assert report["versions"]["llama.cpp"]
    assert report["cpu"]["kernels"] in told.stdout
    assert all(each["problem"] is None for each in report["models"])
    names = [model.name for model in catalog.load(models_dir).models]
    assert [each["name"] for each in report["models"]] == names


def test_a_flipped_bit_is_found(run: Run, models: Path) -> None:
    with (models / NAME / "model.gguf").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    done = run("doctor", "--json", models=models)
    assert done.returncode == 13
    assert "damaged" in done.stderr
    [model] = json.loads(done.stdout)["models"]
    assert (model["intact"], model["fits"], model["problem"]["code"]) == (False, True, 13)


def test_a_model_that_does_not_fit_is_the_exit_code_only_if_it_is_the_default(
    run: Run, models: Path
) -> None:
    small = catalog.load(models).find(NAME)
    huge = replace(small, name="huge", memory=2**60)
    (models / "huge").symlink_to(models / NAME)
    catalog.dump(Catalog(NAME, (huge, small)), models)
    done = run("doctor", models=models)
    assert done.returncode == 0
    assert "!!  huge" in done.stdout
    catalog.dump(Catalog("huge", (huge, small)), models)
    done = run("doctor", models=models)
    assert done.returncode == 12
    assert f"--model {NAME}" in done.stderr


def test_without_a_catalogue_the_machine_is_examined_all_the_same(run: Run, tmp_path: Path) -> None:
    done = run("doctor", models=tmp_path)
    assert done.returncode == 13
    assert "ok  memory" in done.stdout
    assert "catalog.json does not exist" in done.stderr


def test_the_list_of_models_lines_up(run: Run) -> None:
    lines = run("models").stdout.splitlines()
    assert len({line.index("Apache-2.0") for line in lines[1:]}) == 1
    assert [line[0] for line in lines].count("*") == 1
    entries = json.loads(run("models", "--json").stdout)
    assert [entry["name"] for entry in entries if entry["default"]] == ["qwen2.5-coder-0.5b"]
    assert all(entry["fits"] for entry in entries)


def test_a_cpu_that_no_kernel_suits_is_named(unpacked: Path, tmp_path: Path) -> None:
    [engine] = unpacked.rglob("llmdeploy_llamacpp")
    shutil.copytree(engine, tmp_path, dirs_exist_ok=True)
    assert cpu.chosen(tmp_path / "llama-server")
    for library in tmp_path.glob("libggml-cpu-*"):
        library.unlink()
    with pytest.raises(UnsupportedCpu, match="no kernels for this CPU"):
        cpu.chosen(tmp_path / "llama-server")


def test_an_engine_of_another_architecture_is_named(tmp_path: Path) -> None:
    server = tmp_path / "llama-server"
    server.write_bytes(b"\x7fELF of another machine")
    server.chmod(0o755)
    with pytest.raises(UnsupportedCpu) as caught:
        cpu.chosen(server)
    assert "Exec format error" in caught.value.why


def test_the_build_side_measures_what_is_ready(
    settings: Settings,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Settings, "ready_dir", models)
    monkeypatch.setattr(doctor, "SECONDS", 4)
    doctor.examine(settings)
    shown = capsys.readouterr()
    lines = {line.split()[0]: line for line in shown.out.splitlines() if line}
    size = machine.size(catalog.load(models).find(NAME).memory)
    assert re.search(rf"is ready +{size} +\d+, measured", lines[NAME])
    assert "about" in lines["qwen3-8b"]
    assert f"Measuring {NAME}" in shown.err
