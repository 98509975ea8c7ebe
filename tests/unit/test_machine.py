"""The trees in machines/ were captured: version-1 inside `docker run -m 256m --cpus 1.5` on a host
with cgroup version 1, version-2 on a host with two hyperthreaded cores, in a cgroup with the same
limits."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from entrypoint.common import catalog, machine
from entrypoint.common.catalog import Catalog, Model
from entrypoint.common.errors import NotEnoughMemory, NotWritable
from entrypoint.common.machine import Memory

MACHINES = Path(__file__).with_name("machines")
LIMIT = 256 * 2**20


@pytest.fixture(params=["version-1", "version-2"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return shutil.copytree(MACHINES / request.param, tmp_path / "root")


def container_folder(root: Path) -> Path:
    known = ("sys/fs/cgroup/memory", "sys/fs/cgroup/docker/abc")
    return next(root / name for name in known if (root / name).exists())


def namespaced(root: Path) -> Path:
    """Return the tree of version 2 as a container with its own cgroup namespace sees it."""
    shutil.copytree(MACHINES / "version-2", root)
    (root / "proc/self/cgroup").write_text("0::/\n")
    shutil.copytree(root / "sys/fs/cgroup/docker/abc", root / "sys/fs/cgroup", dirs_exist_ok=True)
    shutil.rmtree(root / "sys/fs/cgroup/docker")
    return root


def without_cgroups(root: Path) -> Path:
    shutil.copytree(MACHINES / "version-2", root)
    shutil.rmtree(root / "sys/fs")
    (root / "proc/self/cgroup").unlink()
    return root


def model(name: str, mebibytes: int) -> Model:
    return Model(
        name=name,
        display_name=name.title(),
        engine="llamacpp",
        quantization="Q4_0",
        context=2048,
        memory=mebibytes * 2**20,
        languages=("zh",),
        license="Apache-2.0",
        source="dir",
        revision="1",
        chat_template="",
        stop=(),
        files=(),
    )


SMALL, MIDDLE, LARGE = model("small", 100), model("middle", 200), model("large", 300)
CATALOG = Catalog("large", (LARGE, SMALL, MIDDLE))


def test_the_limit_of_a_container_is_seen_with_either_version_of_cgroups(root: Path) -> None:
    assert machine.memory(root).limit == LIMIT


def test_used_memory_is_not_available() -> None:
    assert machine.memory(MACHINES / "version-1") == Memory(24684084 * 1024, LIMIT, LIMIT - 1101824)
    assert machine.memory(MACHINES / "version-2") == Memory(567860 * 1024, LIMIT, LIMIT - 507904)


def test_cached_files_are_available(root: Path) -> None:
    before = machine.memory(root).available or 0
    stat = container_folder(root) / "memory.stat"
    text = stat.read_text()
    for old, new in (("active_file 0", "active_file 4096"), ("inactive_file 0", "inactive_file 1")):
        text = text.replace(f"\n{old}", f"\n{new}").replace(f"\ntotal_{old}", f"\ntotal_{new}")
    stat.write_text(text)
    assert machine.memory(root).available == before + 4097


def test_a_container_without_limits_has_those_of_the_machine(root: Path) -> None:
    for name, unlimited in (
        ("memory.limit_in_bytes", "9223372036854771712"),
        ("memory.max", "max"),
        ("cpu.max", "max 100000"),
        ("cpu.cfs_quota_us", "-1"),
    ):
        for path in root.rglob(name):
            path.write_text(unlimited)
    assert machine.memory(root).limit is None
    assert machine.threads(root, {0, 2}) == 2


def test_a_limit_of_an_outer_cgroup_counts(tmp_path: Path) -> None:
    root = shutil.copytree(MACHINES / "version-2", tmp_path / "root")
    outer = root / "sys/fs/cgroup/docker"
    (outer / "memory.max").write_text("134217728\n")
    (outer / "abc/cpu.max").write_text("400000 100000\n")
    (outer / "cpu.max").write_text("100000 100000\n")
    assert machine.memory(root) == Memory(567860 * 1024, 134217728, 134217728 - 581632)
    assert machine.threads(root, {0, 1, 2, 3}) == 1


def test_a_container_with_its_own_namespace_sees_its_limits(tmp_path: Path) -> None:
    root = namespaced(tmp_path / "root")
    assert machine.memory(root) == Memory(567860 * 1024, LIMIT, LIMIT - 507904)
    assert machine.threads(root, {0, 1, 2, 3}) == 1


def test_a_cgroup_outside_the_namespace_is_not_followed(tmp_path: Path) -> None:
    root = namespaced(tmp_path / "root")
    (root / "proc/self/cgroup").write_text("0::/../other\n")
    assert machine.memory(root).limit == LIMIT


def test_a_cgroup_that_the_mount_does_not_show_is_not_looked_for(tmp_path: Path) -> None:
    root = shutil.copytree(MACHINES / "version-1", tmp_path / "root")
    path = root / "proc/self/cgroup"
    path.write_text(path.read_text().replace("/docker/", "/elsewhere/"))
    assert machine.memory(root).limit == LIMIT


def test_without_cgroups_the_machine_is_the_limit(tmp_path: Path) -> None:
    root = without_cgroups(tmp_path / "root")
    assert machine.memory(root) == Memory(567860 * 1024, None, 492684 * 1024)
    assert machine.threads(root, {0, 1, 2, 3}) == 2


@pytest.mark.parametrize(
    ("told", "total", "free"),
    [
        ("MemTotal: 8000 kB\nMemFree: 900 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n", 8000, 900),
        ("MemTotal: 8000 kB\nMemFree: 900 kB\nBuffers: 10 kB\nCached: 90 kB\n", 8000, 1000),
        ("MemTotal: 8 kB\nMemFree: 3 kB\nCached: 4 kB\nShmem: 2 kB\n", 8, 5),
        ("MemTotal: 8 kB\nMemFree: 3 kB\nShmem: 2 kB\n", 8, 3),
        ("MemTotal: 8000 kB\n", 8000, None),
        ("MemTotal:\nMemFree: many kB\n\nnonsense\n", None, None),
        ("\xff\xfe", None, None),
        (None, None, None),
    ],
)
def test_what_the_kernel_does_not_tell_is_estimated_or_unknown(
    tmp_path: Path, told: str | None, total: int | None, free: int | None
) -> None:
    root = without_cgroups(tmp_path / "root")
    (root / "proc/meminfo").unlink()
    if told is not None:
        (root / "proc/meminfo").write_bytes(told.encode("latin-1"))
    bytes_ = [amount and amount * 1024 for amount in (total, free)]
    assert machine.memory(root) == Memory(bytes_[0], None, bytes_[1])


def test_a_limit_counts_where_the_machine_does_not_tell_its_memory(root: Path) -> None:
    told = machine.memory(root)
    (root / "proc/meminfo").unlink()
    assert machine.memory(root) == Memory(None, LIMIT, told.available)
    with pytest.raises(NotEnoughMemory, match="docker run -m"):
        machine.require_memory(LARGE, CATALOG, root)


def test_without_a_limit_nothing_is_known_of_a_machine_that_does_not_tell(tmp_path: Path) -> None:
    root = shutil.copytree(MACHINES / "version-1", tmp_path / "root")
    (root / "proc/meminfo").unlink()
    for path in root.rglob("memory.limit_in_bytes"):
        path.write_text("9223372036854771712\n")
    assert machine.memory(root) == Memory(None, None, None)
    machine.require_memory(model("huge", 2**40), CATALOG, root)


@pytest.mark.parametrize(
    ("quota", "expected"), [(50000, 1), (100000, 1), (150000, 1), (200000, 2), (900000, 2)]
)
def test_threads_are_the_whole_cores_within_the_quota(
    root: Path, quota: int, expected: int
) -> None:
    for path in root.rglob("cpu.cfs_quota_us"):
        path.write_text(f"{quota}\n")
    for path in root.rglob("cpu.max"):
        path.write_text(f"{quota} 100000\n")
    cpus = {0, 1} if (root / "sys/fs/cgroup/cpu").exists() else {0, 1, 2, 3}
    assert machine.threads(root, cpus) == expected


def test_hyperthreads_and_forbidden_cpus_do_not_count(tmp_path: Path) -> None:
    root = without_cgroups(tmp_path / "root")
    assert machine.threads(root, {0, 1}) == 1
    assert machine.threads(root, {1, 2}) == 2
    assert machine.threads(root, {3}) == 1


def test_cpus_of_unknown_topology_are_cores() -> None:
    assert machine.threads(Path("/nowhere"), {4, 5, 6}) == 3


def test_an_arm_processor_is_named(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    told = "processor\t: 0\nFeatures\t: fp asimd asimddp sve i8mm\n"
    told += "CPU implementer\t: {maker}\nCPU part\t: 0xd49\n"
    cpuinfo = tmp_path / "proc/cpuinfo"
    cpuinfo.write_text(told.format(maker="0x41"))
    yitian = machine.cpu(tmp_path)
    assert yitian.model == "Arm Neoverse-N2"
    assert {"asimddp", "i8mm", "sve"} <= yitian.flags
    cpuinfo.write_text(told.format(maker="0x48"))  # numbers of parts are each maker's own
    assert machine.cpu(tmp_path).model == ""


def test_the_processor_is_named() -> None:
    haswell = machine.cpu(MACHINES / "version-2")
    assert haswell.model == "Intel Core Processor (Haswell)"
    assert "avx2" in haswell.flags
    assert "avx512f" not in haswell.flags


def test_a_model_that_fits_is_let_through(root: Path) -> None:
    machine.require_memory(MIDDLE, CATALOG, root)


def test_a_model_too_large_for_the_container_names_the_ways_out() -> None:
    with pytest.raises(NotEnoughMemory) as caught:
        machine.require_memory(LARGE, CATALOG, MACHINES / "version-1")
    assert str(caught.value).splitlines() == [
        "large needs 300 MiB of memory.",
        "  This container may use 256 MiB, of which 255 MiB are free.",
        "  Use a smaller model: --model middle needs 200 MiB.",
        "  Give the container more: docker run -m 320m",
    ]


def test_a_model_too_large_for_the_machine_needs_a_larger_machine(tmp_path: Path) -> None:
    root = without_cgroups(tmp_path / "root")
    huge = model("huge", 5000)
    with pytest.raises(NotEnoughMemory) as caught:
        machine.require_memory(huge, Catalog("huge", (huge,)), root)
    assert str(caught.value).splitlines() == [
        "huge needs 4.9 GiB of memory.",
        "  This machine has 555 MiB, of which 481 MiB are free.",
        "  Use a machine with more memory.",
    ]


def test_conversations_at_once_need_memory_each_by_its_length() -> None:
    several = replace(model("several", 100), context=1000, memory_each=10 << 20)
    assert machine.need(several) == 100 << 20
    assert machine.need(several, 4) == 130 << 20
    assert machine.need(several, 4, 2000) == 170 << 20
    version_1 = MACHINES / "version-1"
    machine.require_memory(several, CATALOG, version_1, parallel=4)
    for room in ({"parallel": 20}, {"parallel": 4, "context": 5000}, {"beside": 200 << 20}):
        with pytest.raises(NotEnoughMemory) as caught:
            machine.require_memory(several, CATALOG, version_1, **room)
        assert ("--parallel" in caught.value.next) == ("parallel" in room)


def test_more_memory_than_the_machine_has_is_not_suggested() -> None:
    with pytest.raises(NotEnoughMemory) as caught:
        machine.require_memory(model("huge", 900), CATALOG, MACHINES / "version-2")
    assert "docker run" not in caught.value.next


def test_no_writable_tmp_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nowhere"])
    with pytest.raises(NotWritable, match="no folder for temporary files") as caught:
        machine.require_scratch()
    assert "--tmpfs /tmp" in caught.value.next


def test_the_peak_is_that_of_the_process_and_its_children(tmp_path: Path) -> None:
    for pid, kilobytes in (("self", 3), ("71", 4), ("72", 5), ("99", 100)):
        folder = tmp_path / "proc" / pid
        folder.mkdir(parents=True)
        (folder / "status").write_text(f"Name:\tpython\nVmHWM:\t    {kilobytes} kB\nVmRSS: 1 kB\n")
    for task, children in (("7", "71 72 "), ("8", "")):
        (tmp_path / "proc/self/task" / task).mkdir(parents=True)
        (tmp_path / "proc/self/task" / task / "children").write_text(children)
    assert machine.peak(tmp_path) == 12 * 1024
    assert machine.peak() > 2**20


HIDDEN = "mount --bind /dev/null /proc/meminfo && mount -t tmpfs none /sys/fs/cgroup"
HIDE = ("unshare", "--map-root-user", "--mount", "sh", "-c", f'{HIDDEN} && exec "$@"', "sh")


def test_the_modes_say_that_the_memory_is_unknown(tmp_path: Path) -> None:
    catalog.dump(CATALOG, tmp_path)

    def told(*words: str) -> str:
        return subprocess.run(
            [*HIDE, sys.executable, "-m", "entrypoint", *words],
            env={**os.environ, "LLMDEPLOY_MODELS": str(tmp_path), "LLMDEPLOY_LANG": "en"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    assert all(line.endswith("unknown") for line in told("models").splitlines()[1:])
    assert [each["fits"] for each in json.loads(told("models", "--json"))] == [None] * 3
    assert "unknown, so a model that does not fit" in told("doctor")
    memory = json.loads(told("doctor", "--json"))["memory"]
    assert memory == {"total": None, "limit": None, "available": None, "problem": None}
