"""The container engine: find the one that answers, or install and start Docker.

Which engine is meant is decided as the docker command line decides it: DOCKER_HOST, then the
context, then the default socket.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.settings import Settings
from builder.stage import report
from builder.stage.run import run
from entrypoint.common import files
from entrypoint.common.errors import CommandFailed, EnginePermission, NoContainerEngine
from entrypoint.common.language import _

if TYPE_CHECKING:
    from docker import DockerClient

# Newer releases of Debian split the client and BuildKit's plugin from the engine.
PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "iptables")
START_SECONDS = 60
ANSWER_SECONDS = 600  # a request such as a tag waits behind a build that writes gigabytes


@dataclass(frozen=True)
class Client:
    """A docker command line, and what must be in its environment to build with BuildKit."""

    path: Path
    env: Mapping[str, str]


def connect() -> DockerClient:
    """Return a client of the engine; raise EnginePermission or NoContainerEngine without one."""
    import docker  # 0.3 s, and not every task needs it

    try:
        return docker.from_env(version="auto", timeout=ANSWER_SECONDS)
    except docker.errors.DockerException as error:
        if any(isinstance(cause, PermissionError) for cause in _causes(error)):
            raise EnginePermission(
                _("Docker is there, but this user may not use it."),
                _("Its socket is for root and for the members of the group docker."),
                _(
                    "Join the group (sudo usermod -aG docker $USER, then log in again), "
                    "use sudo, or set up rootless Docker."
                ),
            ) from None
        raise NoContainerEngine(
            _("No container engine answers."),
            str(error),
            _("Install and start Docker, or set DOCKER_HOST to where it is."),
        ) from None


def ensure(settings: Settings) -> DockerClient:
    """Return a client of a running engine; as root on Debian or Ubuntu, install and start one.

    Raises EnginePermission, or NoContainerEngine with what was tried.
    """
    try:
        return connect()
    except NoContainerEngine:
        if os.geteuid() != 0 or _chosen_by_hand():
            raise
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    place = settings.cache_dir / "engine.lock"
    with place.open("wb") as lock:
        files.lock(lock, place)  # two builds at once start one engine
        try:
            return connect()
        except NoContainerEngine:
            try:
                _install()
                return _start(settings.cache_dir / "dockerd.log")
            except CommandFailed as error:
                raise NoContainerEngine(
                    _("Docker could not be installed or started."), str(error)
                ) from None


def building_client() -> Client:
    """Return the first docker command line on PATH that can build with BuildKit.

    One can if it has the buildx plugin, or if it is older than version 23 and is told to. Raises
    CommandFailed if there is none.
    """
    for path in clients():
        with suppress(CommandFailed, ValueError):
            run([path, "buildx", "version"])
            return Client(path, {})
        with suppress(CommandFailed, ValueError):
            version = run([path, "version", "--format", "{{.Client.Version}}"])
            if int(version.split(".")[0]) < 23:  # noqa: PLR2004 - told in the docstring
                return Client(path, {"DOCKER_BUILDKIT": "1"})
    raise CommandFailed(
        _("No docker command here can build with BuildKit."),
        _("It needs the buildx plugin from version 23 on."),
        _("Install the package docker-buildx, or docker-buildx-plugin of Docker's own packages."),
    )


def clients() -> list[Path]:
    """Return all docker command lines on PATH, in its order."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = (shutil.which("docker", path=folder) for folder in folders if folder)
    return list(dict.fromkeys(Path(path) for path in paths if path))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _chosen_by_hand() -> bool:
    """Tell whether the user named another engine than this machine's own."""
    from docker.context.config import get_current_context_name

    host = os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT")
    return bool(host) or get_current_context_name() != "default"


def _install() -> None:
    if shutil.which("dockerd"):
        return
    if not shutil.which("apt-get"):
        raise NoContainerEngine(
            _("No container engine is installed."),
            _("It is installed without asking on Debian and Ubuntu only."),
            _("Install Docker with this system's package manager and run the same task again."),
        )
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    report.say(_("installing {names}").format(names="docker.io"))
    run(["apt-get", "update"], env=quiet)
    known = run(["apt-cache", "--generate", "pkgnames"]).split()
    run(
        [
            "apt-get", "install", "-y", "--no-install-recommends",
            *(name for name in PACKAGES if name in known),
        ],
        env=quiet,
    )  # fmt: skip


def _start(log: Path) -> DockerClient:
    if Path("/run/systemd/system").is_dir():
        report.say(_("starting the service docker"))
        run(["systemctl", "start", "docker"])
        return connect()
    report.say(_("starting dockerd; its log is {log}").format(log=log))
    run(["setsid", "--fork", "dockerd"], log=log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            return connect()
        except NoContainerEngine:
            time.sleep(0.2)
    raise NoContainerEngine(
        _("The container engine was started and does not answer."),
        "\n".join(log.read_text(errors="replace").splitlines()[-5:]),
        _("The whole output is in {log}.").format(log=log),
    )
