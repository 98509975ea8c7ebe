"""The bill of materials names each part so that a scanner finds it, in CycloneDX's form."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from builder.debian.store import Deb
from builder.image import bill
from builder.image.bill import Bill
from entrypoint.common.catalog import Catalog, Model, ModelFile
from tests.unit.test_image import SMALL

SHA256 = "0" * 64
MODEL = replace(
    SMALL,
    name="qwen3-0.6b",
    display_name="Qwen3",
    source="modelscope:Qwen/Qwen3-0.6B-GGUF",
    revision="master",
    files=(ModelFile("model.gguf", 1, SHA256),),
)


def package(kind: str, name: str, version: str, **more: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "version": version, "sha256": SHA256, **more}


def parts(model: Model, *packages: dict[str, str]) -> dict[str, Any]:
    """Return the parts of a bill that fits its schema, by package URL."""
    made = Bill([], {"packages": packages}, Catalog("m", (model,)))
    text = made.text()
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    return {part["purl"]: part for part in json.loads(text)["components"]}


@pytest.mark.parametrize(
    ("found", "purl"),
    [
        (package("wheel", "typing_extensions", "4.16.0"), "pkg:pypi/typing-extensions@4.16.0"),
        (package("conda", "openssl", "3.5.1", build="h7b"), "pkg:conda/openssl@3.5.1?build=h7b"),
        (package("conda", "python", "3.11.2", build="debian_8"), "pkg:generic/python@3.11.2"),
        (
            package("deb", "libssl3", "3.0.22-1", architecture="amd64", source="openssl"),
            "pkg:deb/debian/libssl3@3.0.22-1?arch=amd64&distro=bookworm&upstream=openssl",
        ),
    ],
)
def test_each_package_has_the_address_of_its_kind(found: dict[str, str], purl: str) -> None:
    assert parts(MODEL, found)[purl]["hashes"] == [{"alg": "SHA-256", "content": SHA256}]


def test_packages_that_are_not_the_locked_ones_are_named() -> None:
    debs = [
        Deb("libc6", "2.36-9+deb12u15", SHA256, Path("libc6.deb"), locked=False),
        Deb("libstdc++6", "12.2.0-14", SHA256, Path("libstdc++6.deb"), locked=True),
    ]
    wheel = {"kind": "wheel", "name": "llmdeploy_llamacpp", "version": "1", "locked": False}
    libraries = [
        {"kind": "deb", "name": "libssl3", "version": "3.0.22-1", "locked": False},
        {"kind": "deb", "name": "libffi8", "version": "3.4.4-1", "locked": True},
    ]
    made = Bill(debs, {"packages": [wheel, *libraries]}, Catalog("m", (MODEL,)))
    assert made.unlocked == "libc6=2.36-9+deb12u15 libssl3=3.0.22-1"
    made = Bill(debs[1:], {"packages": libraries[1:]}, Catalog("m", (MODEL,)))
    assert made.unlocked == ""


def test_the_engine_names_the_tree_that_it_is_compiled_of() -> None:
    name = "llmdeploy_llamacpp"
    wheel = package("wheel", name, "0.5.0", compiler="g++ (Debian 12.2.0-14) 12.2.0")
    listed = parts(MODEL, wheel)
    tree = listed[f"pkg:github/ggml-org/llama.cpp@{bill.upstream(name).commit}"]
    assert tree["version"] == bill.upstream(name).version
    assert "pkg:generic/libgomp@12.2.0" in listed


def test_an_engine_whose_archive_names_no_commit_has_none() -> None:
    tree = parts(MODEL, package("wheel", "llmdeploy_ik", "0.1.5"))[
        "pkg:github/ikawrakow/ik_llama.cpp"
    ]
    assert {"version", "pedigree"} & tree.keys() == set()


@pytest.mark.parametrize("wheel", bill.UPSTREAM)
def test_an_engines_tree_is_that_of_the_locked_archive(wheel: str) -> None:
    lock = bill.UPSTREAM[wheel].with_name("source.lock").read_text()
    assert f"\n{bill.upstream(wheel).carrier} --hash=" in lock


def test_a_model_says_where_it_comes_from() -> None:
    found = parts(MODEL)["pkg:generic/qwen3-0.6b@master"]
    places = [each["url"] for each in found["externalReferences"]]
    assert any(place.startswith("https://modelscope.cn/models/") for place in places)
    assert any(place.startswith("pkg:huggingface/") for place in places)


@pytest.mark.parametrize("license", ["", "other", "LicenseRef-ChatGLM3", "Qwen Research License"])
def test_a_model_of_somebodys_own_has_a_bill_that_fits(license: str) -> None:
    own = replace(MODEL, name="我的 模型", source="dir:/home/me/x", revision="", license=license)
    [found] = [part for part in parts(own).values() if part["type"] == "machine-learning-model"]
    assert found["name"] == "我的 模型"
    assert not found["externalReferences"], "nobody else could follow them"
    assert "/home/me" not in str(found)
