"""What load.sh looks at before it asks for a container engine: hashes, and who signed them."""

import os
import subprocess
from pathlib import Path

import pytest

from builder.launch import export, signature
from builder.stage import receipt

CURVE = ("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out")
NO_ENGINE = 9  # how load.sh ends here when all before it is right


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a signed folder with one file, beside the keys sign.pub and other.pub."""
    for name in ("sign", "other"):
        key, public = tmp_path / f"{name}.key", tmp_path / f"{name}.pub"
        subprocess.run([*CURVE, key], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    place = tmp_path / "folder"
    place.mkdir()
    script = (export.PLACE / "load.sh").read_text(encoding="utf-8")
    (place / "load.sh").write_text(script.replace("@KEYS@", ""), encoding="utf-8")
    (place / "file").write_text("content")
    sign(place, tmp_path / "sign.key")
    return place


def sign(folder: Path, key: Path) -> None:
    sums = f"{receipt.sha256(folder / 'file')}  file\n"
    (folder / export.SUMS).write_text(sums)
    signed = signature.over(sums.encode(), signature.private_key(key))
    (folder / export.SIGNATURE).write_text(f"{signed}\n")


def load(folder: Path, *key: str) -> tuple[int, str]:
    """Run load.sh as a person does who stands beside the folder, where no engine answers."""
    done = subprocess.run(
        ["sh", f"{folder.name}/load.sh", *key],
        cwd=folder.parent,
        env={**os.environ, "LLMDEPLOY_LANG": "en", "DOCKER_HOST": f"unix://{folder}/none"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_the_right_key_lets_it_go_on(folder: Path) -> None:
    assert load(folder, "sign.pub")[0] == NO_ENGINE
    assert load(folder, str(folder.parent / "sign.pub"))[0] == NO_ENGINE


def test_without_a_key_it_says_that_nobody_checked(folder: Path) -> None:
    code, told = load(folder)
    assert (code, "sh load.sh KEY.pub" in told) == (NO_ENGINE, True)
    (folder / export.SIGNATURE).unlink()
    code, told = load(folder)
    assert (code, "KEY.pub" in told) == (NO_ENGINE, False)


def test_hashes_that_were_written_anew_are_refused(folder: Path) -> None:
    (folder / "file").write_text("another")
    kept = (folder / export.SIGNATURE).read_text()
    sign(folder, folder.parent / "other.key")
    assert load(folder, "sign.pub")[0] == 32
    (folder / export.SIGNATURE).write_text(kept)
    code, told = load(folder, "sign.pub")
    assert (code, "changed since" in told) == (32, True)


@pytest.mark.parametrize(
    ("key", "content", "code", "word"),
    [
        ("other.pub", None, 32, "another key"),
        ("missing.pub", None, 2, "no file"),
        ("sign.pub", "", 32, "another key"),
        ("sign.pub", "no base64!", 32, "another key"),
    ],
)
def test_what_cannot_be_verified_is_not_loaded(
    folder: Path, key: str, content: str | None, code: int, word: str
) -> None:
    if content is not None:
        (folder / export.SIGNATURE).write_text(content)
    assert (load(folder, key)[0], word in load(folder, key)[1]) == (code, True)


def test_a_folder_that_nobody_signed(folder: Path) -> None:
    (folder / export.SIGNATURE).unlink()
    code, told = load(folder, "sign.pub")
    assert (code, "not signed" in told) == (32, True)
