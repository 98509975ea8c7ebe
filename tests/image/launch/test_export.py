"""The service goes in a folder to a machine that reaches nothing: another engine, no route."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from builder.image import licenses
from builder.settings import Settings
from builder.stage import receipt

from .conftest import install, wait_for

MEGABYTE = 1_000_000
AS_ROOT = () if os.geteuid() == 0 else ("sudo", "--non-interactive")
LOOPBACK = 'ip link set lo up && exec "$@"'  # a new network namespace has it, and has it down
FILES = {
    *("LICENSES.txt", "README.md", "SHA256SUMS", "compose.yaml", "image.json", "image.tar.zst"),
    *("load.sh", "sbom.json"),
}
DESCRIPTION = 'name = "chat"\npatience = {patience}\n'

Task = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def site() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return a way to run programs where an engine has no image yet and its network no route."""
    install("zstd", "zstd")
    install("ip", "iproute2")
    with tempfile.TemporaryDirectory(prefix="site-", ignore_cleanup_errors=True) as place:
        address = f"unix://{place}/sock"
        folders = [f"--data-root={place}/data", f"--exec-root={place}/exec"]
        engine = ["dockerd", *folders, f"--host={address}", f"--pidfile={place}/pid"]

        def run(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*AS_ROOT, "env", f"DOCKER_HOST={address}", "LLMDEPLOY_LANG=en",
                 *(f"{key}={value}" for key, value in env.items()), *words],
                capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip

        with subprocess.Popen(
            [*AS_ROOT, "unshare", "--net", "sh", "-c", LOOPBACK, "sh", *engine],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                wait_for(lambda: run("docker", "version").returncode == 0)
                yield run
            finally:
                run("sh", "-c", "docker rm --force $(docker ps --all --quiet)")
                process.terminate()
        subprocess.run([*AS_ROOT, "rm", "-rf", place], check=True)


@pytest.fixture
def small(checkout: Path, task: Task) -> Path:
    """Return a checkout that has built an image with one small model."""
    (checkout / "llmdeploy.toml").write_text('image = "llmdeploy-exported"\n')
    (checkout / "deploy.toml").write_text(DESCRIPTION.format(patience=120))
    done = task("build-image", "smollm2-135m", "--no-deps", cwd=checkout)
    assert done.returncode == 0, done.stderr
    return checkout


def seal(folder: Path) -> None:
    """Write SHA256SUMS anew, as somebody does who means what he changed."""
    paths = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = (f"{receipt.sha256(path)}  {path.name}\n" for path in paths)
    (folder / "SHA256SUMS").write_text("".join(lines))


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        [byte] = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def kill_in_the_middle(words: Sequence[str], cwd: Path, scratch: Path) -> None:
    """Start a task and kill it once it writes the image below the folder `scratch`."""
    command = [sys.executable, "-m", "builder", *words]
    with subprocess.Popen(command, cwd=cwd, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: list(scratch.rglob("image.tar.zst")))
        process.kill()


def test_a_machine_without_a_network_gets_the_service_and_later_its_update(
    small: Path, site: Task, task: Task, keys: Path, tmp_path: Path
) -> None:
    first, second, broken = (tmp_path / name for name in ("first", "second", "broken"))
    kill_in_the_middle(["export", "--output", str(first)], small, tmp_path / ".first.partial")
    assert not first.exists()
    done = task("export", "--output", str(first), cwd=small)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{first}\n"
    assert not list(tmp_path.glob(".first*"))
    assert {path.name for path in first.iterdir()} == FILES

    flip(first / "image.tar.zst")
    done = site("sh", first / "load.sh")
    assert done.returncode == 5
    assert "image.tar.zst is damaged" in done.stderr
    assert not site("docker", "images", "--quiet").stdout
    assert "image.tar.zst 已损坏" in site("sh", first / "load.sh", LLMDEPLOY_LANG="zh").stderr

    flip(first / "image.tar.zst")
    done = site("sh", first / "load.sh")
    assert done.returncode == 0, done.stderr
    assert "ready: http://127.0.0.1:8000" in done.stderr
    running = site("docker", "ps", "--quiet").stdout
    assert "nothing changed" in site("sh", first / "load.sh").stderr
    assert site("docker", "ps", "--quiet").stdout == running

    with (small / "entrypoint/__init__.py").open("a") as source:
        source.write("EDITED = True\n")
    assert task("build-image", "smollm2-135m", "--no-deps", cwd=small).returncode == 0
    update = ("export", "--since", str(first), "--output")
    key = str(keys / "sign.key")
    assert task(*update, str(second), "--sign", key, cwd=small).returncode == 0
    assert sum(path.stat().st_size for path in second.iterdir()) < MEGABYTE

    (small / "deploy.toml").write_text(DESCRIPTION.format(patience=2))
    assert task(*update, str(broken), cwd=small).returncode == 0
    script = (broken / "load.sh").read_text()
    (broken / "load.sh").write_text(script.replace("serve --host", "serve --hots"))
    seal(broken)
    done = site("sh", broken / "load.sh")
    assert done.returncode == 30
    assert "--hots" in done.stderr
    assert site("docker", "ps", "--quiet", "--no-trunc").stdout.startswith(running.strip())

    done = site("sh", second / "load.sh", keys / "sign.pub")
    assert done.returncode == 0, done.stderr
    name = json.loads((second / "image.json").read_text())["name"]
    assert site("docker", "ps", "--format", "{{.Image}} {{.Names}}").stdout == f"{name} chat\n"

    site("sh", "-c", "docker rm --force chat; docker image rm --force $(docker images --quiet)")
    done = site("sh", second / "load.sh")
    assert done.returncode == 11
    assert "Load that export first" in done.stderr


@pytest.mark.usefixtures("image")
def test_an_export_without_room_is_refused_before_it_begins(
    task: Task, small_disk: Callable[[int], Path]
) -> None:
    target = small_disk(64 * MEGABYTE) / "folder"
    done = task("export", "--output", str(target))
    assert done.returncode == 8
    assert "There is no room" in done.stderr
    assert list(target.parent.iterdir()) == []


@pytest.mark.usefixtures("image")
def test_what_cannot_be_an_export_is_told(task: Task, tmp_path: Path) -> None:
    done = task("export", "--output", str(tmp_path))
    assert (done.returncode, "already exists" in done.stderr) == (2, True)
    done = task("export", "--output", str(tmp_path / "new"), "--since", str(tmp_path))
    assert (done.returncode, "image.json" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("image")
def test_the_licences_are_those_of_the_libraries_the_wheels_and_the_program(
    settings: Settings,
) -> None:
    text = licenses.collect(settings.image_dir / "roots")
    for place in ("/usr/share/doc/libc6/", "/starlette-", "/llmdeploy_llamacpp/", "/llmdeploy-"):
        assert place in text
    assert text.count("Permission is hereby granted, free of charge") > 5
