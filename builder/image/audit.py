"""`audit`: the parts of the image, looked up in a database of vulnerabilities in OSV's form.

The database is a file that the user has fetched: all.zip of an ecosystem, as osv.dev publishes it,
or one record, or a list of them, as JSON.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packageurl import PackageURL
from packaging.version import InvalidVersion, Version

from builder import image as images
from builder.environment import lock
from builder.settings import Settings
from builder.stage import report
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed, UsageFailure, Vulnerable
from entrypoint.common.language import _

# What OSV calls the ecosystems of package URLs; Debian's also have the release's number.
ECOSYSTEMS: Final = {"pypi": "PyPI", "npm": "npm", "deb": "Debian"}
RELEASES: Final = {"bookworm": "12", "trixie": "13"}

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Material:
    """A part of the image as OSV knows it; `ecosystem` is empty where it has none for the kind."""

    ecosystem: str
    name: str
    version: str


def audit(settings: Settings, database: Path | None) -> None:
    """Print the known vulnerabilities of the image's parts, and say what could not be checked.

    Raises Vulnerable if there are some, StageMissing without an image, UsageFailure for a file that
    is no such database.
    """
    images.finished(settings.image_dir / "receipt.json", settings.task("build-image"))
    bill = json.loads((settings.image_dir / "sbom.json").read_text(encoding="utf-8"))
    parts = [part(each) for each in bill["components"]]
    lock.tell_replaced()
    records = list(_records(database)) if database else []
    covered = {each["package"]["ecosystem"] for record in records for each in record["affected"]}
    if unchecked := [each.name for each in parts if each.ecosystem not in covered]:
        report.say(
            _("not checked, as the database does not cover them: {names}").format(
                names=", ".join(unchecked)
            )
        )
    lines = [line for each in parts for record in records if (line := _finding(each, record))]
    for line in lines:
        print(line)
    if lines:
        raise Vulnerable(
            _("Known vulnerabilities: {count}.").format(count=len(lines)),
            next=_("Renew the locks (./llmdeploy lock --renew) and build the image again."),
        )
    report.say(_("no known vulnerability in what was checked"))


def part(component: Mapping[str, Any]) -> Material:
    """Return what OSV calls a component of the bill."""
    purl = PackageURL.from_string(component["purl"])
    ecosystem, name = ECOSYSTEMS.get(purl.type, ""), purl.name
    if purl.type == "deb":
        qualifiers = dict(purl.qualifiers)
        number = RELEASES.get(qualifiers.get("distro", ""))
        ecosystem = f"{ecosystem}:{number}" if number and purl.namespace == "debian" else ""
        name = qualifiers.get("upstream", name)
    return Material(ecosystem, name, purl.version or "")


def _records(database: Path) -> Iterator[Record]:
    """Yield the records of a database; raise UsageFailure if it is none."""
    try:
        if zipfile.is_zipfile(database):
            with zipfile.ZipFile(database) as content:
                texts = [
                    content.read(name) for name in content.namelist() if name.endswith(".json")
                ]
        else:
            texts = [database.read_bytes()]
        for text in texts:
            read = json.loads(text)
            for record in read if isinstance(read, list) else [read]:
                yield {
                    "id": record["id"],
                    "summary": record.get("summary", ""),
                    "affected": [each for each in record.get("affected", ()) if "package" in each],
                }
    except OSError as error:
        raise _unreadable(database, str(error.strerror)) from None
    except (ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile) as error:
        raise _unreadable(database, repr(error)) from None


def _unreadable(database: Path, why: str) -> UsageFailure:
    return UsageFailure(
        _("{path} is not a vulnerability database in OSV format.").format(path=database),
        why,
        _("Name the all.zip of an ecosystem, or records as JSON."),
    )


def _finding(each: Material, record: Record) -> str:
    """Return a line about a part that a record affects, else ""."""
    for affected in record["affected"]:
        package = affected["package"]
        if (package["ecosystem"], package["name"].lower()) != (each.ecosystem, each.name.lower()):
            continue
        if each.version in affected.get("versions", ()) or any(
            _within(each, ranged["events"])
            for ranged in affected.get("ranges", ())
            if ranged["type"] != "GIT"
        ):
            return f"{record['id']}  {each.name} {each.version}  {record['summary']}".rstrip()
    return ""


def _within(each: Material, events: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether a version lies in one of the ranges that events open and close, in order."""
    inside = False
    for event in events:
        [(kind, version)] = event.items()
        if kind == "introduced":
            inside = inside or version == "0" or not _before(each, version)
        elif kind == "fixed":
            inside = inside and _before(each, version)
        elif kind == "last_affected":
            inside = inside and not _before(
                Material(each.ecosystem, each.name, version), each.version
            )
    return inside


def _before(each: Material, version: str) -> bool:
    """Tell whether a part's version is older than `version`, by the rules of its ecosystem."""
    if each.ecosystem.startswith("Debian"):
        try:
            run(["dpkg", "--compare-versions", each.version, "lt", version])
        except CommandFailed:
            return False
        return True
    try:
        return Version(each.version) < Version(version)
    except InvalidVersion:
        return False
