"""The image's engine on an older CPU than any that builds it, emulated by QEMU."""

import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from builder.image import base
from builder.image.layers import PREFIX
from builder.settings import Settings
from entrypoint.engines.connection import Connection

QEMU = "usr/bin/qemu-x86_64-static"


@pytest.fixture(scope="session")
def qemu(settings: Settings) -> Path:
    """Return an emulator of x86-64 programs, from Debian's package."""
    place = settings.cache_dir / "qemu"
    if not place.exists():
        base.download(["qemu-user-static"], place)
    program = place / Path(QEMU).name
    if not program.exists():
        [deb] = place.glob("*.deb")
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE
        ) as unpacking:
            with tarfile.open(fileobj=unpacking.stdout, mode="r|") as content:
                for member in content:
                    if member.name.endswith(QEMU):
                        member.name = program.name
                        content.extract(member, place, filter="data")
            unpacking.communicate()
    return program


@pytest.fixture
def server(
    settings: Settings,
    image: str,  # noqa: ARG001 - whose unpacked layers are used
    qemu: Path,
    tmp_path: Path,
) -> Iterator[Path]:
    """Return the socket of the image's engine on a CPU of 2008, without AVX."""
    [program] = (settings.image_dir / "roots/env" / PREFIX).glob("**/llama-server")
    model = settings.ready_dir / "smollm2-135m/model.gguf"
    address = tmp_path / "engine.sock"
    words: list[str | Path] = [
        qemu,
        "-cpu",
        "Nehalem",
        program,
        "--host",
        address,
        "--model",
        model,
    ]
    with subprocess.Popen(
        [*words, "--ctx-size", "256", "--parallel", "1", "--no-warmup"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not address.exists():
            assert process.poll() is None
            time.sleep(0.2)
        yield address
        process.kill()


def request(address: Path, method: str, path: str, body: str = "") -> tuple[int, str]:
    with closing(Connection(address)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_a_cpu_without_avx_answers_too(server: Path) -> None:
    while request(server, "GET", "/health")[0] != 200:
        time.sleep(0.2)
    question = {"prompt": "The capital of France is", "n_predict": 4, "temperature": 0}
    status, answer = request(server, "POST", "/completion", json.dumps(question))
    assert status == 200
    assert json.loads(answer)["content"].strip()
