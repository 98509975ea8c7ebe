"""Locks: each `*.in` and environment.yml below env/ is an intent, the `*.lock` beside it is made.

A `source.in` names source archives that are compiled here; its lock is the same with their hashes.
An `*.override` beside an `*.in` is part of the intent: it takes the place of what packages ask for.

package.json names packages of npm; package-lock.json is npm's own, and repeats it. Every other lock
names the SHA-256 of its intents in its first lines, so that drift shows without a network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from builder.debian import apt
from builder.debian import lock as debian
from builder.environment import conda
from builder.settings import ROOT, Settings
from builder.stage import receipt, report
from builder.stage.run import run
from entrypoint.common import files
from entrypoint.common.errors import CommandFailed, DownloadFailure, LockDrift
from entrypoint.common.language import _

ENV = ROOT / "env"
CONDA = "conda-linux-64.lock"
SOURCES = "source.lock"
NPM = "package-lock.json"
ONLY_LOCK = ("--package-lock-only", "--omit-lockfile-registry-resolved")
HASH = re.compile(r" --hash=\S+")
UV = (
    *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"),
    *("--universal", "--python-version", "3.11"),
)


def write(settings: Settings, env: Path = ENV, *, renew: bool = False) -> None:
    """Regenerate every lock; pins that still fit their intent stay, unless all are to be renewed.

    Where the conda channel cannot be reached, its lock stays as it is. Raises CommandFailed.
    """
    for lock, intents in _locks(env):
        report.say(_("locking {name}").format(name=lock.name))
        try:
            text = _resolve(settings, lock, intents[0], renew=renew)
        except (DownloadFailure, apt.NoMirror) as failure:
            report.say(_("{name} stays as it is: {what}").format(name=lock.name, what=failure.what))
            continue
        if lock.name not in (SOURCES, NPM):
            text = _header(env, intents) + text
        files.write(lock, text.encode())


def check(_settings: Settings, env: Path = ENV) -> None:
    """Raise LockDrift naming every lock that was not made from its intents of today."""
    drifted = [
        _("{lock} was not made from this {intent}.").format(
            lock=lock.relative_to(env), intent=" + ".join(path.name for path in intents)
        )
        for lock, intents in _locks(env)
        if not (lock.exists() and _made_from(env, lock, intents))
    ]
    if drifted:
        raise LockDrift(
            _("The locks do not match what they are made from."),
            "\n  ".join(drifted),
            _("Regenerate them: ./llmdeploy lock"),
        )


def tell_replaced(env: Path = ENV) -> None:
    """Say which of the locked Debian packages a newer one has replaced, where apt can be asked."""
    aim = debian.intent(env)
    for architecture in debian.ARCHITECTURES.values():
        name = debian.file(architecture, env).name
        try:
            with apt.suite(aim.suite, architecture) as suite:
                today = {each.name: each.version for each in suite.resolve(aim)}
        except CommandFailed as failure:
            report.say(
                _("cannot tell which packages of {name} have been replaced: {what}").format(
                    name=name, what=failure.what
                )
            )
            continue
        for each in debian.read(architecture, env):
            if today.get(each.name) != each.version:
                report.say(
                    _("{name} has {package} {version}, and Debian has {today}").format(
                        name=name,
                        package=each.name,
                        version=each.version,
                        today=today.get(each.name, _("none")),
                    )
                )


def _resolve(settings: Settings, lock: Path, intent: Path, *, renew: bool) -> str:
    """Return the text of a lock; raise DownloadFailure, NoMirror or CommandFailed."""
    if lock.name == SOURCES:
        return _with_hashes(intent)
    if lock.name == NPM:
        return _npm(intent, None if renew else lock)
    if lock.name == CONDA:
        return conda.dump(conda.solve(conda.specs(intent), settings.channel))
    if intent.name == debian.INTENT:
        aim = debian.intent(intent.parent)
        with apt.suite(aim.suite, lock.stem.removeprefix("debian-")) as suite:
            return debian.dump(suite.resolve(aim))
    return _compile(intent, None if renew else lock)


def _locks(env: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each lock with its intents, those that others build on first."""
    locks = [
        (path.with_suffix(".lock"), [path, *_constraints(path), *_overrides(path)])
        for path in env.rglob("*.in")
        if path.name != debian.INTENT
    ]
    yield from sorted(locks, key=lambda each: (len(each[1]), each[0]))
    if (env / debian.INTENT).exists():
        for architecture in debian.ARCHITECTURES.values():
            yield debian.file(architecture, env), [env / debian.INTENT]
    for path in sorted(env.rglob("package.json")):
        yield path.with_name(NPM), [path]
    yield env / CONDA, [env / "environment.yml"]


def _constraints(intent: Path) -> list[Path]:
    """Return the files that an intent takes in with -r, or agrees with by -c."""
    lines = intent.read_text(encoding="utf-8").splitlines()
    return [intent.parent / line[3:] for line in lines if line.startswith(("-c ", "-r "))]


def _overrides(intent: Path) -> list[Path]:
    beside = intent.with_suffix(".override")
    return [beside] if beside.exists() else []


def _header(env: Path, intents: list[Path]) -> str:
    made_from = "".join(
        f"# from {path.relative_to(env.parent)} sha256:{receipt.sha256(path)}\n"
        for path in intents
        if path.exists()
    )
    return f"# GENERATED by: ./llmdeploy lock\n{made_from}"


def _made_from(env: Path, lock: Path, intents: list[Path]) -> bool:
    text = lock.read_text(encoding="utf-8")
    if lock.name == SOURCES:
        return HASH.sub("", text) == intents[0].read_text(encoding="utf-8")
    if lock.name == NPM:
        intent = json.loads(intents[0].read_text(encoding="utf-8"))
        return bool(json.loads(text)["packages"][""]["dependencies"] == intent["dependencies"])
    return text.startswith(_header(env, intents))


def _with_hashes(intent: Path) -> str:
    """Return an intent that pins source archives with their hashes beside them."""
    lines = intent.read_text(encoding="utf-8").splitlines(keepends=True)
    comments = "".join(line for line in lines if line.startswith("#"))
    pins = _uv(intent, "--no-deps", "--no-binary", ":all:")
    return comments + pins.replace(" \\\n    ", " ")


def _compile(intent: Path, lock: Path | None) -> str:
    """Resolve an intent to pins with hashes for all platforms; those of `lock` that fit stay."""
    draft = intent.with_name(f".{intent.name}.draft")
    try:
        if lock and lock.exists():
            shutil.copy(lock, draft)
        overrides = [word for path in _overrides(intent) for word in ("--override", path)]
        _uv(intent, "--emit-build-options", *overrides, "--output-file", draft)
        return draft.read_text(encoding="utf-8")
    finally:
        draft.unlink(missing_ok=True)


def _npm(intent: Path, lock: Path | None) -> str:
    """Resolve a package.json to packages with hashes; those of `lock` that fit stay."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / intent.parent.name  # npm calls the lock after its folder
        draft.mkdir()
        for path in (intent, lock):
            if path and path.exists():
                shutil.copy(path, draft)
        run(
            ["npm", "install", "--package-lock-only", "--omit-lockfile-registry-resolved"],
            cwd=draft,
        )
        return (draft / NPM).read_text(encoding="utf-8")


def _uv(intent: Path, *options: str | Path) -> str:
    return run(
        [Path(sys.executable).with_name("uv"), *UV, *options, intent.name],
        cwd=intent.parent,
        # uv does not read pip's settings, and torch's CPU build lies outside the index.
        env={"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")},
    )
