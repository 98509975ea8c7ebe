"""The apt of this machine, asked for packages of the locked suite, whatever release it has itself.

Where Debian's mirrors are, and how they are reached, only apt's own configuration tells. What is
asked about other releases or architectures happens in a state of its own, never the machine's.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import unquote

from builder.debian.lock import DebianIntent, Package
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

ARCHIVES: Final = {"debian": ("", "-updates"), "debian-security": ("-security",)}
HELPER: Final = Path("/usr/lib/apt/apt-helper")
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TARGETS: Final = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)"
URI: Final = re.compile(r"^'(\S+)' (\S+) (\d+) ", re.MULTILINE)
# root would become another user, who may not write where we want the file.
UNSANDBOXED: Final = ("-o", "APT::Sandbox::User=root")


def mirrors() -> dict[str, list[str]]:
    """Return by archive the addresses that this machine's apt takes Debian's packages from."""
    addresses: dict[str, list[str]] = {name: [] for name in ARCHIVES}
    if shutil.which("apt-get") is None:
        return addresses
    ask = ("apt-get", "indextargets", "--format", TARGETS)
    # Before the first `apt-get update`, as in a new container, nobody knows an address's origin.
    for line in (run(ask) or run([*ask, "--no-release-info"])).splitlines():
        origin, address, release = line.split("|")
        if origin == "Debian" or "$" in origin:
            name = "debian-security" if "-security" in release else "debian"
            addresses[name].append(address.rstrip("/"))
    return {name: list(dict.fromkeys(each)) for name, each in addresses.items()}


def fetch(packages: Mapping[Path, Package]) -> None:
    """Let apt fetch packages to these places; what it cannot deliver is not there afterwards."""
    if not HELPER.exists():
        return
    known = mirrors()
    for number in range(max(map(len, known.values()))):
        words: list[str | Path] = []
        for target, package in packages.items():
            archive, __, path = package.path.partition("/")
            for address in known[archive][number : number + 1]:
                if not target.exists():
                    words += [f"{address}/{path}", target, f"SHA256:{package.sha256}"]
        if words:
            with suppress(CommandFailed):  # one that is missing does not keep the others away
                run([HELPER, *UNSANDBOXED, "download-file", *words])


class NoMirror(CommandFailed):
    """The apt of this machine, if there is one, takes nothing from Debian."""


@dataclass(frozen=True)
class Suite:
    """A suite of Debian for one architecture, with lists of its own below the folder `state`."""

    name: str
    architecture: str
    state: Path

    def resolve(self, intent: DebianIntent) -> list[Package]:
        """Return the packages that an intent needs; raise CommandFailed where apt cannot."""
        groups: dict[tuple[str, str], set[str]] = {}
        for group, names in intent.alone.items():
            for key in self._uris("download", names):
                groups.setdefault(key, set()).add(group)
        for group, names in intent.whole.items():
            for key in self._uris("install", names):
                groups.setdefault(key, set()).add(group)
        return [
            Package(
                fields["Package"],
                fields["Version"],
                tuple(sorted(groups[archive, fields["Filename"]])),
                f"{archive}/{fields['Filename']}",
                int(fields["Size"]),
                fields["SHA256"],
            )
            for archive, fields in self._described(groups)
        ]

    def current(self, names: Sequence[str], folder: Path) -> None:
        """Download today's versions of packages into `folder`; raise CommandFailed."""
        run(["apt-get", "download", "-qq", *self._options, *UNSANDBOXED, *names], cwd=folder)

    @property
    def _options(self) -> list[str]:
        settings = {
            "Dir::Etc::sourcelist": self.state / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State": self.state,
            "Dir::State::status": self.state / "status",
            "Dir::State::lists": self.state / "lists",
            "Dir::Cache": self.state / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def _uris(self, task: str, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return archive and path of what `apt-get TASK` would fetch."""
        words = ["--print-uris", "-qq", "-y", "--no-install-recommends", *self._options]
        listing = run(["apt-get", task, *words, *names])
        return [_split(address) for address, _name, _size in URI.findall(listing)]

    def _described(
        self, keys: Mapping[tuple[str, str], object]
    ) -> Iterator[tuple[str, Mapping[str, str]]]:
        archives = {path: archive for archive, path in keys}
        names = {Path(path).name.partition("_")[0] for path in archives}
        listing = run(["apt-cache", "show", *self._options, *sorted(names)])
        for paragraph in listing.split("\n\n"):
            fields = dict(re.findall(r"^(\S+): (.*)$", paragraph, re.MULTILINE))
            if archive := archives.get(fields.get("Filename", "")):
                yield archive, fields


@contextmanager
def suite(name: str, architecture: str) -> Iterator[Suite]:
    """Yield a suite, its lists fetched anew; raise NoMirror or CommandFailed."""
    known = mirrors()
    if not known["debian"]:
        raise NoMirror(
            _("This machine's apt knows no mirror of Debian."),
            next=_('Name a mirror of Debian in llmdeploy.toml: mirrors = ["https://..."]'),
        )
    with TemporaryDirectory() as folder:
        state = Path(folder)
        for each in ("lists/partial", "cache/archives/partial"):
            (state / each).mkdir(parents=True)
        (state / "status").touch()
        keyring = f" signed-by={KEYRING}" if KEYRING.exists() else ""
        sources = [
            f"deb [arch={architecture}{keyring}] {address} {name}{suffix} main\n"
            for archive, suffixes in ARCHIVES.items()
            for address in known[archive]
            for suffix in suffixes
        ]
        (state / "sources.list").write_text("".join(sources))
        chosen = Suite(name, architecture, state)
        run(["apt-get", "update", "-qq", *chosen._options, *UNSANDBOXED])  # noqa: SLF001 - our own
        yield chosen


def _split(address: str) -> tuple[str, str]:
    """Return the archive that a package's address is of, and its path in there."""
    base, __, rest = unquote(address).partition("/pool/")
    return ("debian-security" if "security" in base else "debian"), f"pool/{rest}"
