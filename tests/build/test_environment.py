"""The environment, built for real: the same bytes every time, and nothing missing elsewhere."""

import functools
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rattler
import zstandard

from builder.environment import conda, condaenv, debianpython, engine, wheelhouse
from builder.environment.explicit import explicit
from builder.image import base
from builder.settings import ROOT, Settings
from builder.stage import archive, receipt
from entrypoint.common.errors import DownloadFailure, HashMismatch

DEAD = "http://127.0.0.1:9"  # nobody listens on the port `discard`
BUILD = """
import sys
from builder.environment import condaenv
from builder.settings import Settings
condaenv.build(Settings(dist=sys.argv[1], cache=sys.argv[2]), "debian")
"""

Serve = Callable[[float], str]


class Channel(http.server.SimpleHTTPRequestHandler):
    """Serves files; of packages only the part that it was told to."""

    def __init__(self, part: float, *args: object, directory: str) -> None:
        self.part = part
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if not self.path.endswith(".conda"):
            return super().do_GET()
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: int(len(content) * self.part)])
        return None

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Return what starts a conda channel on loopback with Debian's Python in it."""
    servers = []

    def start(part: float) -> str:
        folder = debianpython.channel(settings).removeprefix("file://")
        handler = functools.partial(Channel, part, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def cache(tmp_path: Path, settings: Settings, environment: Path) -> Path:
    """Return a cache with nothing in it but the engine's wheel."""
    assert environment.exists()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "engine").symlink_to(settings.cache_dir / "engine")
    return tmp_path / "cache"


@pytest.fixture
def lock(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a conda lock of Debian's Python, in the place of the repository's."""
    path = tmp_path / "conda.lock"
    path.write_text(conda.dump(conda.solve(["python"], debianpython.channel(settings))))
    monkeypatch.setattr(condaenv, "LOCK", path)
    return path


def members(tarball: Path) -> dict[str, int]:
    with (
        tarball.open("rb") as raw,
        zstandard.ZstdDecompressor().stream_reader(raw) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        return {member.name: member.size for member in tar}


def read(dist: Path) -> dict[str, object]:
    return json.loads((dist / "env" / "runtime.json").read_text())  # type: ignore[no-any-return]


def leftovers(dist: Path) -> list[str]:
    return [path.name for path in (dist / "env").iterdir() if path.suffix != ".lock"]


@pytest.fixture(scope="session")
def from_debian(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the SHA-256 of the environment made from Debian's Python."""
    dist = tmp_path_factory.mktemp("debian")
    condaenv.build(Settings(dist=str(dist), cache=settings.cache), "debian")
    return receipt.sha256(dist / "env" / "runtime.tar.zst")


def test_two_builds_from_scratch_have_the_same_bytes(
    from_debian: str, cache: Path, tmp_path: Path
) -> None:
    dist = tmp_path / "another" / "place"
    condaenv.build(Settings(dist=str(dist), cache=str(cache)), "debian")
    assert receipt.sha256(dist / "env" / "runtime.tar.zst") == from_debian


def test_a_second_build_does_nothing(
    environment: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    before = environment.stat()
    condaenv.build(settings, "auto")
    assert environment.stat() == before
    assert "nothing changed" in capsys.readouterr().err


def test_the_receipt_lists_every_package_with_its_hash(environment: Path) -> None:
    facts = json.loads(environment.with_name("runtime.json").read_text())
    locked = (ROOT / "env/runtime.lock").read_text()
    wheels = [package for package in facts["packages"] if package["kind"] == "wheel"]
    assert {"llmdeploy_llamacpp", "prompt_toolkit"} <= {package["name"] for package in wheels}
    for package in wheels:
        if package["name"] == "llmdeploy_llamacpp":
            assert "g++" in package["compiler"], "it is made here"
            continue
        assert f"{package['name'].replace('_', '-')}=={package['version']}" in locked
        assert f"--hash=sha256:{package['sha256']}" in locked
    assert all(len(package["sha256"]) == 64 for package in facts["packages"])
    assert facts["python"] in [package["version"] for package in facts["packages"]]


def test_only_what_the_container_needs_is_packed(environment: Path) -> None:
    content = members(environment)
    assert sum(content.values()) < 100e6
    for unwanted in ("/torch/", "/transformers/", "/pip/", "/test/", "/include/", "llama-quantize"):
        assert not [name for name in content if unwanted in name]
    assert not [name for name in content if name.endswith((".a", ".conda", ".whl"))]
    # Bytecode for every module: the image is read-only.
    sources = {name for name in content if name.endswith(".py") and "/lib/python" in f"/{name}"}
    compiled = {name for name in content if name.endswith(".pyc")}
    assert len(compiled) == len(sources)


def test_what_is_packed_brings_its_licences_and_nothing_under_the_gpl(environment: Path) -> None:
    content = members(environment)
    texts = [name for name in content if name.startswith("share/licenses/")]
    for library in ("ssl", "ffi", "sqlite", "ncurses"):
        assert [name for name in texts if library in name and content[name]], library
    assert not [name for name in content if "readline" in name]


def test_it_runs_on_a_base_without_this_machines_python(
    environment: Path, settings: Settings, tmp_path: Path
) -> None:
    run_on_bare_base(environment, settings, tmp_path)


def test_another_python_builds_the_same_bytes(
    from_debian: str, cache: Path, tmp_path: Path
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    run("/usr/bin/python3", "-m", "venv", "--without-pip", tmp_path / "venv")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--require-hashes")
    run(*pip, "--quiet", "--only-binary", ":all:", "-r", ROOT / "env" / "host.lock")
    run(python, "-c", BUILD, tmp_path / "dist", cache)
    assert receipt.sha256(tmp_path / "dist/env/runtime.tar.zst") == from_debian


def run(*argv: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_on_bare_base(tarball: Path, settings: Settings, tmp_path: Path) -> None:
    """Import everything where there is a C and a C++ library and nothing else of this machine."""
    root = tmp_path / "root"
    root.mkdir()
    base.unpack(base.packages(settings, []), root)
    archive.extract(tarball, root / "opt" / "llmdeploy")
    (root / "proc").mkdir(exist_ok=True)  # where a program learns where it lies
    inside = ("unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--root", root)
    wheels = ("llmdeploy-llamacpp", "prompt-toolkit", "wcwidth")
    run(*inside, "/opt/llmdeploy/bin/python", "-I", "-c", condaenv.IMPORT_ALL.read_text(), *wheels)
    (server,) = (root / "opt/llmdeploy/lib").glob("python3.*/site-packages/*/llama-server")
    run(*inside, f"/{server.relative_to(root)}", "--version")
    prefix = run(*inside, "/opt/llmdeploy/bin/python3", "-c", "import sys; print(sys.prefix)")
    assert prefix == "/opt/llmdeploy\n"


def test_locked_packages_come_from_any_channel_and_give_the_same_bytes(
    serve: Serve, lock: Path, from_debian: str, cache: Path, tmp_path: Path
) -> None:
    assert lock.exists()
    condaenv.build(Settings(dist=str(tmp_path / "d"), cache=str(cache), channel=serve(1)), "lock")
    facts = read(tmp_path / "d")
    assert facts["source"] == "lock"
    assert receipt.sha256(tmp_path / "d/env/runtime.tar.zst") == from_debian


@pytest.mark.parametrize("source", ["lock", "auto"])
def test_a_package_that_is_not_the_locked_one_is_refused(
    source: condaenv.Source, serve: Serve, lock: Path, cache: Path, tmp_path: Path
) -> None:
    (wrong,) = [line for line in lock.read_text().splitlines() if line.startswith("sha256")]
    lock.write_text(lock.read_text().replace(wrong, f'sha256 = "{"0" * 64}"'))
    mirror = Settings(dist=str(tmp_path / "d"), cache=str(cache), channel=serve(1))
    with pytest.raises(HashMismatch, match="not the locked one"):
        condaenv.build(mirror, source)
    assert leftovers(tmp_path / "d") == []


@pytest.mark.usefixtures("lock")
def test_a_truncated_package_is_refused(serve: Serve, cache: Path, tmp_path: Path) -> None:
    mirror = Settings(dist=str(tmp_path / "d"), cache=str(cache), channel=serve(0.5))
    with pytest.raises(DownloadFailure, match="does not deliver"):
        condaenv.build(mirror, "lock")
    assert leftovers(tmp_path / "d") == []


def as_micromamba_reads(line: str) -> rattler.RepoDataRecord:
    """Return the package of a line `URL#MD5`: all that is known of it is in its address."""
    url, __, md5 = line.partition("#")
    base, subdir, file = url.rsplit("/", 2)
    name, version, build = file.removesuffix(".conda").removesuffix(".tar.bz2").rsplit("-", 2)
    package = rattler.PackageRecord(
        name, version, rattler.BuildString(build), 0, subdir, md5=bytes.fromhex(md5) or None
    )
    return rattler.RepoDataRecord(package, file, url, f"{base}/")


def test_other_tools_make_the_same_prefix_of_the_explicit_list(
    serve: Serve, lock: Path, tmp_path: Path
) -> None:
    channel = serve(1)
    header, begin, *lines = explicit(lock, channel).splitlines()
    assert (header, begin) == ("# platform: linux-64", "@EXPLICIT")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    conda.link([as_micromamba_reads(line) for line in lines], theirs, tmp_path / "cache")
    conda.link(conda.load(lock, channel), ours, tmp_path / "cache")
    files = [
        {path.relative_to(prefix) for path in prefix.rglob("*") if "conda-meta" not in path.parts}
        for prefix in (theirs, ours)
    ]
    assert files[0] == files[1]
    assert run(theirs / "bin/python", "-c", "import ssl; print(6 * 7)") == "42\n"


def test_the_explicit_list_has_every_locked_package_with_its_md5() -> None:
    lines = explicit(condaenv.LOCK, "https://mirror.example/conda-forge").splitlines()[2:]
    assert len(lines) == condaenv.LOCK.read_text().count("[[package]]") > 10
    for line in lines:
        assert re.fullmatch(
            r"https://mirror\.example/conda-forge/(linux-64|noarch)/\S+#[0-9a-f]{32}", line
        )


def test_an_unreachable_channel_is_named(tmp_path: Path, settings: Settings) -> None:
    dead = Settings(dist=str(tmp_path), cache=settings.cache, channel=DEAD)
    with pytest.raises(DownloadFailure, match=DEAD):
        condaenv.build(dead, "lock")
    assert leftovers(tmp_path) == []


def test_without_a_channel_auto_takes_debians_python(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    condaenv.build(Settings(dist=str(tmp_path), cache=settings.cache, channel=DEAD), "auto")
    assert read(tmp_path)["source"] == "debian"
    assert "Taking Debian's locked Python instead" in capsys.readouterr().err


def test_a_build_killed_while_packing_is_built_anew(
    from_debian: str, settings: Settings, tmp_path: Path
) -> None:
    dist, temporary = tmp_path / "killed", tmp_path / "temporary"
    temporary.mkdir()
    argv = [sys.executable, "-c", BUILD, str(dist), settings.cache]
    env = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(argv, cwd=ROOT, env=env, start_new_session=True) as process:
        work = dist / "env" / ".runtime"
        while not any(path.stat().st_size > 1e6 for path in work.glob("tmp*")):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert leftovers(dist) == [".runtime"]
    assert list(temporary.iterdir()) == []
    condaenv.build(Settings(dist=str(dist), cache=settings.cache), "debian")
    assert receipt.sha256(dist / "env" / "runtime.tar.zst") == from_debian
    assert sorted(leftovers(dist)) == ["runtime.json", "runtime.tar.zst"]


FULL = """
import sys
from dataclasses import replace
from pathlib import Path
from builder import variants
from builder.environment import condaenv
from builder.settings import Settings
from entrypoint.common.errors import Failure
needed = replace(variants.VARIANTS["llamacpp"], packing=int(sys.argv[3]))
variants.VARIANTS = {"llamacpp": needed}
try:
    condaenv.build(Settings(dist=sys.argv[1], cache=sys.argv[2]), "debian")
except Failure as failure:
    left = [path.name for path in Path(sys.argv[1], "env").iterdir() if path.suffix != ".lock"]
    print(type(failure).__name__, left)
"""


# While linking, installing, packing, trying; and before any of that.
@pytest.mark.parametrize(
    ("megabytes", "needed"),
    [(20, 0), (50, 0), (85, 0), (160, 0), (160, Settings().variant.packing)],
)
def test_a_full_disk_is_named_and_nothing_is_left(
    megabytes: int, needed: int, settings: Settings, tmp_path: Path
) -> None:
    dist, temporary = tmp_path / "dist", tmp_path / "temporary"
    for path in (dist, temporary):
        path.mkdir()
    words = [sys.executable, "-c", FULL, str(dist), settings.cache, str(needed)]
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs {dist} && exec env TMPDIR={temporary} "$@"'
    told = run("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", *words)
    assert told == "DiskFull []\n"
    assert list(temporary.iterdir()) == []


def test_a_wheel_that_is_not_the_locked_one_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "env/runtime.lock").read_text()
    hashes = [word for word in text.split() if word.startswith("--hash")]
    for each in hashes:
        text = text.replace(each, f"--hash=sha256:{'0' * 64}")
    (tmp_path / "runtime.lock").write_text(text)
    monkeypatch.setattr(wheelhouse, "lock", lambda _settings: tmp_path / "runtime.lock")
    cache = Settings(cache=str(tmp_path / "cache"))
    with pytest.raises(HashMismatch, match="not the locked one"):
        wheelhouse.locked(cache, Path(sys.executable))
    assert not [path for path in (tmp_path / "cache/wheels").iterdir() if path.is_dir()]
    assert settings.cache_dir != cache.cache_dir


def test_a_kept_wheel_that_was_changed_is_refused_and_thrown_away(
    settings: Settings, tmp_path: Path
) -> None:
    prefix = tmp_path / "prefix"
    records = conda.solve(["python"], debianpython.channel(settings))
    conda.link(records, prefix, settings.cache_dir / "conda")
    python = prefix / "bin" / "python"
    wheels = wheelhouse.locked(Settings(cache=str(tmp_path / "cache")), python)
    changed = next(wheels.glob("prompt_toolkit*"))
    changed.write_bytes(changed.read_bytes() + b"\0")
    compiled = engine.wheel(settings, "llamacpp")
    with pytest.raises(HashMismatch, match="not the locked one"):
        wheelhouse.install(settings, python, wheels, [compiled])
    wheels = wheelhouse.locked(Settings(cache=str(tmp_path / "cache")), python)
    wheelhouse.install(settings, python, wheels, [compiled])
