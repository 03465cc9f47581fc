# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of one's own, in private mount, process and network namespaces: the machine's configuration and networks stay as they are."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Everything libvirtd writes to, and where a folder of ours is put instead, inside its mount namespace only.
PRIVATE_FOLDERS = (
    "etc/libvirt",
    "run/libvirt",
    "var/lib/libvirt",
    "var/log/libvirt",
    "var/cache/libvirt",
    "var/lib/swtpm-localca",
    "var/log/swtpm",
)

# No systemd, no security driver and no cgroup controllers on a test machine. A site leaves all of these at their defaults.
QEMU_CONF = """\
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
"""
LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
"""

READY_SECONDS = 600
"""Two, where nothing else runs."""

START = """\
set -eu
cd "$1"
for folder in $2; do
  [ -d "/$folder" ] || mkdir -p "/$folder"
  mount --bind "$1/$folder" "/$folder"
done
ip link set lo up
# The shell is the first process of its namespace and reaps what libvirtd leaves behind; libvirtd itself would wait for the zombies.
libvirtd --pid-file /run/libvirt/libvirtd.pid --config /etc/libvirt/libvirtd.conf &
wait $!
"""


@dataclass(frozen=True)
class LibvirtHost:
    """A running libvirtd; `namespace` is the network namespace in which its bridges are."""

    root: Path
    namespace: str

    @property
    def uri(self) -> str:
        return f"qemu:///system?socket={self.root}/run/libvirt/libvirt-sock"

    def run(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A command inside the network namespace, where the gateways can be reached."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *command], check=False, text=True, capture_output=True, timeout=timeout
        )

    def virsh(self, *arguments: str) -> str:
        done = subprocess.run(["virsh", "-q", "-c", self.uri, *arguments], check=False, text=True, capture_output=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


# What the package would have made there, and libvirtd takes for granted.
FOLDERS_OF_THE_PACKAGE = ("var/lib/libvirt/dnsmasq", "var/lib/libvirt/swtpm", "var/log/swtpm/libvirt/qemu")


def _prepare(root: Path) -> None:
    for folder in (*PRIVATE_FOLDERS, *FOLDERS_OF_THE_PACKAGE):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc/libvirt/qemu.conf").write_text(QEMU_CONF)
    (root / "etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF)


def _wait_until_ready(host: LibvirtHost, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            host.virsh("version")
        except RuntimeError:
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"libvirtd did not start:\n{log.read_text(errors='replace')[-2000:]}")


@contextmanager
def libvirt_host(root: Path, namespace: str) -> Iterator[LibvirtHost]:
    """Starts libvirtd; at the end the process namespace goes, and with it every domain, dnsmasq and swtpm that was started in it."""
    _prepare(root)
    log = root / "libvirtd.log"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
                 "--mount-proc", "bash", "-c", START, "libvirtd", str(root), " ".join(PRIVATE_FOLDERS)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            host = LibvirtHost(root, namespace)
            _wait_until_ready(host, process, log)
            yield host
        finally:
            process.kill()
            process.wait()
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)


@contextmanager
def default_pool(host: LibvirtHost, folder: Path) -> Iterator[None]:
    """The storage pool that a site's hypervisor has."""
    folder.mkdir()
    host.virsh("pool-create-as", "default", "dir", "--target", str(folder))
    try:
        yield
    finally:
        host.virsh("pool-destroy", "default")


@contextmanager
def bridge(host: LibvirtHost, name: str) -> Iterator[None]:
    """A bridge that a site's hypervisor has."""
    host.run("ip", "link", "add", name, "type", "bridge")
    host.run("ip", "link", "set", name, "up")
    try:
        yield
    finally:
        host.run("ip", "link", "delete", name)
