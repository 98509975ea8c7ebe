"""The import contracts of pyproject.toml refuse what they say they refuse."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder.settings import ROOT

LINTER = Path(sys.executable).with_name("lint-imports")
REFUSED = (
    ("builder/image/__init__.py", "from entrypoint.answers import results"),
    ("builder/image/layers.py", "from entrypoint.answers import questions"),
    ("builder/image/base.py", "from entrypoint import arguments"),
    ("builder/image/daemon.py", "from entrypoint.compare import checks"),
    ("builder/models/fetch.py", "from entrypoint.compare import sandbox"),
    ("builder/models/convert.py", "from entrypoint.engines import weights"),
    ("builder/launch/push.py", "from entrypoint import health"),
    ("builder/bench/peers.py", "import bench.ours"),
    ("bench/ours.py", "from entrypoint import battery"),
    ("bench/serve.py", "from builder import settings"),
    ("entrypoint/chat/__init__.py", "from entrypoint.battery import transcript"),
    ("entrypoint/common/table.py", "from entrypoint import arguments"),
    ("entrypoint/doctor.py", "from builder.stage import receipt"),
    ("entrypoint/models.py", "import docker"),
)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what the linter says of the code with all of these imports added."""
    place = tmp_path_factory.mktemp("code")
    for name in ("bench", "builder", "entrypoint"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    for file, line in REFUSED:
        with (place / file).open("a", encoding="utf-8") as code:
            code.write(f"\n{line}\n")
    linted = subprocess.run(
        [LINTER, "--no-cache"], cwd=place, capture_output=True, text=True, check=False
    )
    assert linted.returncode == 1
    return linted.stdout


@pytest.mark.parametrize(("file", "line"), REFUSED)
def test_an_import_across_the_rooms_is_refused(said: str, file: str, line: str) -> None:
    importer = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    words = line.split()
    imported = words[1] if words[0] == "import" else f"{words[1]}.{words[3]}"
    assert f"{importer} -> {imported} (" in said


@pytest.mark.parametrize("side", ["builder", "entrypoint"])
def test_the_picture_of_the_house_shows_every_room(side: str) -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / side).glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}/`" not in page} == set()


def test_no_two_rooms_of_the_build_side_stand_on_each_other() -> None:
    rooms = {path.stem for path in (ROOT / "builder").glob("[!_]*") if path.name != "zh.toml"}
    upon: dict[str, set[str]] = {}
    for path in (ROOT / "builder").rglob("*.py"):
        room = path.relative_to(ROOT / "builder").parts[0].removesuffix(".py")
        names = re.findall(
            r"^ *from builder(?:\.(\w+)\S*)? import (.+)", path.read_text("utf-8"), re.MULTILINE
        )
        for package, listed in names:
            targets = {package} if package else set(re.findall(r"\w+", listed)) & rooms
            upon.setdefault(room, set()).update(targets - {room})
    mutual = {(room, each) for room in upon for each in upon[room] if room in upon.get(each, ())}
    assert mutual == set()
    assert upon["stage"] <= {"settings", "variants"}, "what every stage stands on"


def test_a_page_names_only_files_that_exist() -> None:
    place = r"(?a)`((?:builder|entrypoint|env|tests|docs|models|bench)/[\w./-]+\.\w+)`"
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(place, path.read_text("utf-8")):
            local = re.search("NAME|ARCHITECTURE|/local|/prebuilt", name)
            assert local or (ROOT / name).exists(), f"{path.name}: {name}"
