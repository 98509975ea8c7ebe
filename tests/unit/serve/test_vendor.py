"""What others made for the page is what they published, and little enough to be in git."""

import hashlib
import re
from pathlib import Path

from entrypoint.serve import app

VENDOR = Path(app.__file__).parent / "page" / "vendor"
ROW = re.compile(r"^\| (\S+\.js) \| (\S+) \|.* (\w{64}) \|$", re.MULTILINE)


def test_each_file_has_its_hash_and_its_licence() -> None:
    rows = ROW.findall((VENDOR / "README.md").read_text(encoding="utf-8"))
    licences = {f"{package}.LICENSE" for _name, package, _sha256 in rows}
    names = {name for name, _package, _sha256 in rows}
    assert {path.name for path in VENDOR.iterdir()} == {*names, *licences, "README.md"}
    for name, _package, sha256 in rows:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == sha256
    assert len(names) == 2
