"""A virtual machine as a cloud would start it, emulated in software, on loopback alone.

Its disk is a Debian which is made once and kept in the cache. It reads its user data over HTTP, as
on many clouds, and takes commands on its second serial port.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from builder.settings import Settings
from builder.stage import receipt, scratch

from .conftest import free_port, install, wait_for

HOST = "10.0.2.2"  # what the machine calls this one
PACKAGES = (
    "linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "udev", "iproute2", "cloud-init",
    "apparmor", "docker.io", "iptables",
)  # fmt: skip
# Only what the user data uses: emulated, each further module takes seconds.
CLOUD = """
datasource_list: [NoCloud]
cloud_init_modules: [bootcmd, write_files]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts_user]
"""
NETWORK = "[Match]\nName=en*\n[Network]\nDHCP=yes\n"  # not Docker's own interfaces
OPERATOR = """#cloud-config
bootcmd:
- [sh, -c, "mkdir -p /var/lib/llmdeploy && echo {key} >/var/lib/llmdeploy/keys"]
- [systemd-run, --no-block, sh, -c, "exec sh -x </dev/ttyS1 >/dev/ttyS1 2>&1"]
"""
SECONDS = 600  # an emulated machine is slow, and so may this one be


@dataclass(frozen=True)
class Machine:
    """A running machine: where its service is found, and its console."""

    url: str
    console: socket.socket
    log: Path

    def run(self, command: str) -> str:
        """Run a command in it; return what the console showed until its end."""
        self.console.sendall(f"{command}; echo end-of-$((1))\n".encode())
        seen = ""
        while "end-of-1" not in seen:
            seen += self.console.recv(4096).decode(errors="replace")
        return seen


def disk(settings: Settings) -> Path:
    """Return the folder with the machine's disk and kernel, made if there is none."""
    recipe = receipt.digest([PACKAGES, CLOUD, NETWORK])[:16]
    place = settings.cache_dir / "vm" / recipe
    if not place.is_dir():
        install("mmdebstrap", "mmdebstrap")
        with scratch.folder(place.with_name(f".{recipe}")) as work:
            _make(work)
            (work / "made").rename(place)
    return place


def _make(work: Path) -> None:
    root, made = work / "root", work / "made"
    made.mkdir()
    as_root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    files = {
        "etc/cloud/cloud.cfg.d/99-test.cfg": CLOUD,
        "etc/systemd/network/ether.network": NETWORK,
        "etc/docker/daemon.json": f'{{"insecure-registries": ["{HOST}/32"]}}\n',
    }
    hooks: list[str] = []
    for name, text in files.items():
        draft = work / Path(name).name
        draft.write_text(text)
        target = f'"$1/{name}"'
        hooks.append(f'--customize-hook=mkdir -p "$(dirname {target})" && cp {draft} {target}')
    hooks.append('--customize-hook=chroot "$1" systemctl enable systemd-networkd')
    include = f"--include={','.join(PACKAGES)}"
    image = made / "disk.ext4"
    with image.open("wb") as sparse:
        sparse.truncate(4 << 30)
    for words in (
        ["mmdebstrap", "--quiet", "--variant=apt", include, *hooks, "bookworm", root],
        ["mkfs.ext4", "-q", "-F", "-d", root, image],
        ["sh", "-c", f"cp {root}/boot/vmlinuz-* {made}/kernel"],
        ["sh", "-c", f"cp {root}/boot/initrd.img-* {made}/initrd"],
        ["chmod", "-R", "a+r", made],
        ["rm", "-rf", root],
    ):
        subprocess.run([*as_root, *words], check=True, capture_output=True)


@contextmanager
def boot(disk: Path, user_data: str, key: str, port: int, work: Path) -> Iterator[Machine]:
    """Start a machine with this user data and API key; its `port` is reached on loopback."""
    install("qemu-system-x86_64", "qemu-system-x86")
    seed = work / "seed"
    seed.mkdir()
    for name, text in {
        "user-data": user_data,
        "meta-data": "instance-id: i-1\n",
        "vendor-data": OPERATOR.format(key=key),
    }.items():
        (seed / name).write_text(text, encoding="utf-8")
    outside, console = free_port(), work / "console"
    handler = partial(_Quiet, directory=str(seed))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = f"http://{HOST}:{server.server_address[1]}/"
        words: list[str | Path] = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
            "-m", "2500", "-display", "none", "-no-reboot", "-snapshot",
            "-kernel", disk / "kernel", "-initrd", disk / "initrd",
            "-append", "root=/dev/vda rw console=ttyS0 systemd.journald.forward_to_console=1",
            "-drive", f"file={disk / 'disk.ext4'},format=raw,if=virtio",
            "-smbios", f"type=1,serial=ds=nocloud-net;s={source}",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{outside}-:{port}",
            "-device", "virtio-net-pci,netdev=net,romfile=",
            "-serial", f"file:{work / 'log'}", "-serial", f"unix:{console},server=on,wait=off",
        ]  # fmt: skip
        with subprocess.Popen(words) as process, socket.socket(socket.AF_UNIX) as line:
            try:
                wait_for(console.exists)
                line.connect(str(console))
                line.settimeout(SECONDS)
                yield Machine(f"http://127.0.0.1:{outside}", line, work / "log")
            finally:
                process.kill()
                server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Be quiet."""
