"""What launching needs besides the image: a registry on loopback, and programs from Debian."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from builder.image import daemon as engines

PIECE = 1 << 16

CONFIG = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {place}/blobs}}
  maintenance: {{readonly: {{enabled: {readonly}}}}}
http: {{addr: 127.0.0.1:{port}}}
"""


class Registry(socketserver.ThreadingTCPServer):
    """Debian's docker-registry behind a relay that counts the bytes sent to it."""

    daemon_threads = True
    block_on_close = False  # the engine keeps its connections open

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.behind = behind
        self.received = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Relay(socketserver.BaseRequestHandler):
    server: Registry

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.behind)) as registry:
            back = threading.Thread(target=self._answers, args=(registry,), daemon=True)
            back.start()
            with suppress(OSError):
                while piece := self.request.recv(PIECE):
                    self.server.received += len(piece)
                    registry.sendall(piece)
                registry.shutdown(socket.SHUT_WR)
            back.join()

    def _answers(self, registry: socket.socket) -> None:
        with suppress(OSError):
            while piece := registry.recv(PIECE):
                self.request.sendall(piece)
            self.request.shutdown(socket.SHUT_WR)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def install(program: str, package: str) -> None:
    """Have a Debian package installed if its program is not there."""
    if shutil.which(program) is None:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(["apt-get", *words], env=quiet, capture_output=True, check=True)


def download(folder: Path, release: str, package: str) -> list[Path]:
    """Download a package of another release of Debian into `folder`, from this machine's mirror.

    Nothing of the machine's own lists and packages is touched.
    """
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Label: Debian"]
    mirror = subprocess.check_output(targets, text=True).splitlines()[0]
    source = folder / "sources.list"
    source.write_text(f"deb {mirror} {release} main\n", encoding="utf-8")
    options = [
        f"-oDir::Etc::SourceList={source}", "-oDir::Etc::SourceParts=/dev/null",
        f"-oDir::State::Lists={folder}/lists", f"-oDir::Cache={folder}/cache",
        "-oAPT::Sandbox::User=root",
    ]  # fmt: skip
    for words in (["update"], ["download", f"{package}/{release}"]):
        subprocess.run(["apt-get", *options, *words], cwd=folder, capture_output=True, check=True)
    return list(folder.glob("*.deb"))


@contextmanager
def serve(place: Path, *, readonly: bool = False) -> Iterator[Registry]:
    """Run a registry that keeps its content below `place`."""
    install("docker-registry", "docker-registry")
    behind = free_port()
    place.mkdir(exist_ok=True)
    config = place / "config.yml"
    config.write_text(
        CONFIG.format(place=place, port=behind, readonly=str(readonly).lower()), encoding="utf-8"
    )
    with (
        Registry(behind) as registry,
        subprocess.Popen(
            ["docker-registry", "serve", config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server,
    ):
        threading.Thread(target=registry.serve_forever, daemon=True).start()
        try:
            wait_for(lambda: answers(f"http://127.0.0.1:{behind}/v2/"))
            yield registry
        finally:
            registry.shutdown()
            server.terminate()
            forget(registry.host)


def forget(host: str) -> None:
    """Remove the names that images of this machine have on a registry."""
    engine = engines.connect()
    for image in engine.images.list():
        for tag in image.tags:
            if tag.startswith(f"{host}/"):
                # By force, as a swarm removes the containers of a service later than the service.
                engine.images.remove(tag, force=True)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5, proxies={"no": "127.0.0.1"}).ok
    except requests.RequestException:
        return False


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Return a registry that takes images and counts what it is sent."""
    with serve(tmp_path_factory.mktemp("registry")) as running:
        yield running


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a folder with a key pair, another public key, and keys that are of no use."""
    place = tmp_path / "keys"
    place.mkdir()
    curve = ["genpkey", "-algorithm", "EC", "-pkeyopt"]
    openssl(*curve, "ec_paramgen_curve:P-256", "-out", place / "sign.key")
    openssl("pkey", "-in", place / "sign.key", "-pubout", "-out", place / "sign.pub")
    openssl(*curve, "ec_paramgen_curve:P-256", "-out", place / "other.key")
    openssl("pkey", "-in", place / "other.key", "-pubout", "-out", place / "other.pub")
    openssl(*curve, "ec_paramgen_curve:P-384", "-out", place / "p384.key")
    openssl("pkey", "-in", place / "p384.key", "-pubout", "-out", place / "p384.pub")
    openssl("genpkey", "-algorithm", "ED25519", "-out", place / "ed25519.key")
    locked = ["-aes256", "-passout", "pass:secret"]
    openssl("pkey", "-in", place / "sign.key", *locked, "-out", place / "encrypted.key")
    openssl("ec", "-in", place / "sign.key", *locked, "-out", place / "old.key")
    (place / "text.key").write_text("not a key\n")
    return place
