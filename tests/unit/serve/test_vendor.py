"""What others made for the page is what they published, and the bill of materials has it."""

import hashlib
import json

from builder.image import materials
from builder.image.bill import Bill
from entrypoint.common.catalog import Catalog


def test_each_file_has_its_hash_and_its_licence() -> None:
    folder = materials.VENDORED.parent
    packages = materials.vendored()
    licences = {f"{each.name}.LICENSE" for each in packages}
    names = {each.file for each in packages}
    assert {path.name for path in folder.iterdir()} == {*names, *licences, "packages.toml"}
    for each in packages:
        assert hashlib.sha256((folder / each.file).read_bytes()).hexdigest() == each.sha256
    assert len(names) == 2


def test_the_bill_of_materials_lists_each_with_address_and_hash() -> None:
    bill = json.loads(Bill([], {"packages": []}, Catalog("", ())).text())
    listed = {part.get("purl"): part["hashes"] for part in bill["components"] if "hashes" in part}
    assert listed == {
        f"pkg:npm/{each.name}@{each.version}": [{"alg": "SHA-256", "content": each.sha256}]
        for each in materials.vendored()
    }
