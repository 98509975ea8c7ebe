"""What this machine, and the container around this process, can give a model.

All is read from /proc and /sys, below a `root` that tests replace by captured trees. Amounts are
in bytes. A container's limits are those of its cgroup, version 1 or 2, and of every cgroup above
it that can be seen.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from entrypoint.common.catalog import Catalog, Model
from entrypoint.common.errors import NotEnoughMemory, NotWritable
from entrypoint.common.language import _

ROOT = Path("/")
STEP = 64 * 2**20  # a suggested limit is rounded up to this: use grows a little meanwhile
UNLIMITED = 2**62  # bytes; "no limit" is 2**63 rounded down to whole pages
# Arm's cores for servers by their parts: the kernel tells numbers there, and no names.
CORES = {
    "0xd0c": "Arm Neoverse-N1",
    "0xd40": "Arm Neoverse-V1",
    "0xd49": "Arm Neoverse-N2",
    "0xd4f": "Arm Neoverse-V2",
}
ARM = "0x41"  # who designed them
UNIFIED = ""  # how /proc/self/cgroup names version 2, which has all controllers in one tree


@dataclass(frozen=True)
class Memory:
    """`total` of the machine; `limit` of the container, None without one; `available` to a model.

    Cached files count as available: the kernel drops them when a program asks for memory. `total`
    is None where the kernel does not tell it, `available` where nothing tells it.
    """

    total: int | None
    limit: int | None
    available: int | None


@dataclass(frozen=True)
class Cpu:
    """The processor's name and its feature flags, as /proc/cpuinfo writes them."""

    model: str
    flags: frozenset[str]


def memory(root: Path = ROOT) -> Memory:
    """Read how much memory there is, and how much of it this process may still take."""
    total, free = _machine(root)
    limits, rooms = [], [] if free is None else [free]
    for folder in _cgroup(root, "memory"):
        bound = _number(folder, "memory.max", "memory.limit_in_bytes")
        # Version 1 writes "no limit" as a huge number.
        if bound is None or bound >= (UNLIMITED if total is None else total):
            continue
        limits.append(bound)
        used = _number(folder, "memory.current", "memory.usage_in_bytes") or 0
        rooms.append(max(0, bound - used + _cached_files(folder)))
    return Memory(total, min(limits, default=None), min(rooms, default=None))


def peak(root: Path = ROOT) -> int:
    """Return the most memory that this process and its children have had, in bytes."""
    me = root / "proc/self"
    children = " ".join(_text(path) for path in me.glob("task/*/children")).split()
    statuses = [_text(folder / "status") for folder in (me, *(root / "proc" / n for n in children))]
    return sum(
        1024 * int(kibibytes) for kibibytes in re.findall(r"VmHWM:\s+(\d+) kB", "\n".join(statuses))
    )


def threads(root: Path = ROOT, cpus: Collection[int] | None = None) -> int:
    """Return how many threads to compute with: one for each whole core that is ours.

    Hyperthreads share their core's arithmetic, so they do not count. The CPU quota is rounded
    down: the engine's threads wait for each other by spinning, and one that is throttled holds up
    all (quota 1.5, two cores: one thread answered 2 to 3 times as fast as two).
    """
    cpus = os.sched_getaffinity(0) if cpus is None else cpus
    topology = root / "sys/devices/system/cpu"
    # The name that kernels before 5.4 know too; without the file, a CPU is a core of its own.
    cores = {_text(topology / f"cpu{n}/topology/thread_siblings_list") or f"{n}" for n in cpus}
    return max(1, min((len(cores), *map(int, _quotas(root)))))


def cpu(root: Path = ROOT) -> Cpu:
    """Read the processor's name and flags; both empty where the kernel does not tell."""
    lines = (line.partition(":") for line in _text(root / "proc/cpuinfo").splitlines())
    facts = {key.strip(): value.strip() for key, _colon, value in lines}
    part = facts.get("CPU part", "") if facts.get("CPU implementer") == ARM else ""
    flags = facts.get("flags") or facts.get("Features", "")
    return Cpu(facts.get("model name") or CORES.get(part, ""), frozenset(flags.split()))


def need(model: Model, parallel: int = 1, context: int | None = None) -> int:
    """Return the bytes that a model takes with so many conversations of so many tokens at once."""
    each = model.memory_each * (context or model.context) // model.context
    return model.memory - model.memory_each + parallel * each


def require_memory(
    model: Model,
    catalog: Catalog,
    root: Path = ROOT,
    *,
    parallel: int = 1,
    context: int | None = None,
    beside: int = 0,
) -> None:
    """Raise NotEnoughMemory, with what would work, if `model` is known not to fit.

    `beside` is what other models are going to take, in bytes.
    """
    budget = memory(root)
    needed = need(model, parallel, context)
    if budget.available is None or beside + needed <= budget.available:
        return
    if budget.limit is None:
        why = _("This machine has {total}, of which {available} are free.")
    else:
        why = _("This container may use {limit}, of which {available} are free.")
    ways = [] if parallel == 1 else [_("Compute fewer answers at once: --parallel")]
    ways += [
        _("Use a smaller model: --model {name} needs {need}.").format(
            name=each.name, need=size(need(each, parallel, context))
        )
        for each in sorted(catalog.models, key=lambda other: other.memory, reverse=True)
        if beside + need(each, parallel, context) <= budget.available
    ][:1]
    if budget.limit is not None and (budget.total is None or beside + needed <= budget.total):
        use = max(0, budget.limit - budget.available)
        ways.append(
            _("Give the container more: docker run -m {mebibytes}m").format(
                mebibytes=-(-(beside + needed + use) // STEP) * STEP // 2**20
            )
        )
    raise NotEnoughMemory(
        _("{name} needs {need} of memory.").format(name=model.name, need=size(needed)),
        why.format(
            total=size(budget.total),
            limit=size(budget.limit),
            available=size(budget.available),
        ),
        "\n  ".join(ways) or _("Use a machine with more memory."),
    )


def require_scratch() -> Path:
    """Return the folder for the engine's socket; raise NotWritable if there is none."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise NotWritable(
            _("There is no folder for temporary files: /tmp cannot be written."),
            _("The engine listens on a socket there."),
            _("In a read-only container, add: --tmpfs /tmp"),
        ) from None


def size(amount: int | None) -> str:
    """Write an amount of bytes as people read it, in the units of `docker run -m`."""
    if amount is None:
        return _("unknown")
    if amount < 2**30:
        return f"{amount / 2**20:.0f} MiB"
    return f"{amount / 2**30:.1f} GiB"


def _machine(root: Path) -> tuple[int | None, int | None]:
    """Return how much memory the machine has and how much is free, None for what is not told.

    Kernels before 3.14, WSL 1 and some LXC hosts do not tell what is available. What is free and
    what files are cached is less than that, if the cache holds no shared memory.
    """
    amounts = {name: 1024 * amount for name, amount in _table(root / "proc/meminfo").items()}
    if "MemAvailable:" in amounts or "MemFree:" not in amounts:
        return amounts.get("MemTotal:"), amounts.get("MemAvailable:")
    cached = amounts.get("Cached:", 0) + amounts.get("Buffers:", 0) - amounts.get("Shmem:", 0)
    return amounts.get("MemTotal:"), amounts["MemFree:"] + max(0, cached)


def _cgroup(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup and of those above it, innermost first."""
    paths, mounts = _paths(root), _mounts(root)
    name = controller if controller in mounts else UNIFIED
    if name not in paths or name not in mounts:
        return
    shown, point = mounts[name]
    # Inside a container the mount may show its own cgroup only, while the path is the host's.
    own = paths[name].relative_to(shown) if paths[name].is_relative_to(shown) else PurePosixPath()
    folder = point / own
    while folder != point:
        yield folder
        folder = folder.parent
    yield point


def _paths(root: Path) -> dict[str, PurePosixPath]:
    """Return the path of this process's cgroup for each controller of version 1, and UNIFIED."""
    paths: dict[str, PurePosixPath] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _id, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), PurePosixPath(path))
    return paths


def _mounts(root: Path) -> dict[str, tuple[PurePosixPath, Path]]:
    """Return for each controller which cgroup is shown where in the file system."""
    mounts: dict[str, tuple[PurePosixPath, Path]] = {}
    for line in _text(root / "proc/self/mountinfo").splitlines():
        place, _dash, kind = line.partition(" - ")
        shown, point = place.split()[3:5]
        if kind.startswith("cgroup "):
            names = kind.split()[-1].split(",")
        elif kind.startswith("cgroup2 "):
            names = [UNIFIED]
        else:
            continue
        mounts |= dict.fromkeys(names, (PurePosixPath(shown), root / point.removeprefix("/")))
    return mounts


def _quotas(root: Path) -> Iterator[float]:
    for folder in _cgroup(root, "cpu"):
        words = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us"),
            _text(folder / "cpu.cfs_period_us"),
        ]
        if words[0].isdecimal():  # "max" and "-1" mean no limit
            yield int(words[0]) / int(words[1])


def _cached_files(folder: Path) -> int:
    stat = _table(folder / "memory.stat")
    # Version 1 has both names, and only total_ counts the cgroups below.
    return sum(
        stat.get(f"total_{key}", stat.get(key, 0)) for key in ("active_file", "inactive_file")
    )


def _table(path: Path) -> dict[str, int]:
    lines = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if "".join(words[1:2]).isdecimal()}


def _number(folder: Path, *names: str) -> int | None:
    """Return the number in the first of the files that has one."""
    texts = (_text(folder / name) for name in names)
    return next((int(text) for text in texts if text.isdecimal()), None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
