# SPDX-License-Identifier: Apache-2.0
"""One virtual machine: UEFI, TPM 2, the image's disk with a throw-away layer over it. Everything it starts is ended by its own process."""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.vm.console import Console, console
from tests.vm.network import GATEWAY, TAP, Network

BOOT_SECONDS = 1200
"""Under emulation on a busy machine; 150 to 300 where nothing else runs."""

COMMAND_SECONDS = 300
MAC = "52:54:00:88:20:11"
FIRMWARE = ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd")
_OPTIONS = ("BatchMode=yes", "StrictHostKeyChecking=accept-new", "IdentitiesOnly=yes", "ConnectTimeout=30", "LogLevel=ERROR",
            "ServerAliveInterval=30", "ServerAliveCountMax=8", "ControlMaster=auto", "ControlPersist=300")  # fmt: skip


class NotThere(AssertionError):
    """Something was waited for and did not come. The message ends with the console."""


_watchers: list[Callable[[str], None]] = []


def watched_by(watcher: Callable[[str], None]) -> None:
    """``watcher`` gets each line of progress."""
    _watchers.append(watcher)


def progress(text: str) -> None:
    """For whoever watches a test that takes minutes."""
    for watcher in _watchers:
        watcher(f"vm: {time.strftime('%H:%M:%S')} {text}")


@dataclass
class Machine:
    """``folder`` holds disk layer, firmware settings, TPM and console; ``key`` is the private key of the account ops."""

    folder: Path
    network: Network
    disk: Path
    key: Path
    credentials: Mapping[str, bytes] = field(default_factory=dict)
    memory: str = "1536"
    drive: tuple[str, Path] | None = None
    """A device of QEMU's and the file in it, such as ``("ide-cd", disc)``."""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "console.log"

    @property
    def tpm(self) -> Path:
        return self.folder / "tpm"

    @property
    def layer(self) -> Path:
        return self.folder / "disk.qcow2"

    def start(self) -> None:
        self.prepare()
        self._start_tpm()
        self._processes.append(self._popen(["ip", "netns", "exec", self.network.controller, *self._qemu()], "qemu.log"))
        progress(f"started from {self.disk.name}; console in {self.log}")

    def stop(self) -> None:
        """As if the plug was pulled."""
        self._disconnect()
        for process in reversed(self._processes):
            process.kill()
            process.wait(timeout=30)
        self._processes.clear()

    def power_off(self) -> None:
        """In order, from inside."""
        self.ssh("sudo systemctl poweroff")
        self._disconnect()
        until = time.monotonic() + COMMAND_SECONDS
        while self.running and time.monotonic() < until:
            time.sleep(1)
        self.stop()

    def forget_tpm(self) -> None:
        """Another board with the same disk."""
        shutil.rmtree(self.tpm)

    @property
    def running(self) -> bool:
        return bool(self._processes) and self._processes[-1].poll() is None

    def ssh(self, command: str, *, stdin: bytes = b"", seconds: float = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
        argv = ["ip", "netns", "exec", self.network.controller, "ssh", *self._ssh_options(), f"ops@{GATEWAY}", command]
        done = subprocess.run(argv, check=False, capture_output=True, timeout=seconds, input=stdin)
        return subprocess.CompletedProcess(argv, done.returncode, *(said.decode(errors="replace") for said in (done.stdout, done.stderr)))

    def says(self, command: str, *, seconds: float = COMMAND_SECONDS) -> str:
        done = self.ssh(command, seconds=seconds)
        assert done.returncode == 0, f"{command}: exit status {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def wait_for_ssh(self, seconds: float = BOOT_SECONDS) -> None:
        """Until somebody can log in and the boot is done, well or not."""
        self._disconnect()
        self.wait("a login over SSH", lambda: self.ssh("true", seconds=90).returncode == 0, seconds, every=10)
        self.wait("the end of the boot", lambda: self.state() in ("running", "degraded"), seconds, every=10)

    def state(self) -> str:
        """What systemd says of the boot."""
        return self.ssh("systemctl is-system-running", seconds=120).stdout.strip()

    def reboot(self, seconds: float = BOOT_SECONDS) -> None:
        """An ordinary restart, waited for until there is a login in another boot."""
        before = self.boot_id()
        self.ssh("sudo systemctl reboot", seconds=120)
        self.wait_for_another_boot(before, seconds)

    def wait_for_another_boot(self, before: str, seconds: float = BOOT_SECONDS) -> None:
        self._disconnect()
        self.wait("another boot", lambda: self._boot_or_none() not in (None, before), seconds, every=10)
        self.wait_for_ssh(seconds)

    def boot_id(self) -> str:
        return self.says("cat /proc/sys/kernel/random/boot_id")

    def wait(self, what: str, done: Callable[[], bool], seconds: float, every: float = 5) -> None:
        start = time.monotonic()
        told = start
        progress(f"waiting for {what}, at most {seconds:.0f} s")
        while time.monotonic() - start < seconds:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if done():
                    progress(f"{what} after {time.monotonic() - start:.0f} s")
                    return
            if not self.running:
                break
            if time.monotonic() - told > 60:
                told = time.monotonic()
                progress(f"still waiting for {what}, {told - start:.0f} s; the console: {self.last_line()}")
            time.sleep(every)
        gone = "" if self.running else ", and the machine is gone"
        raise NotThere(f"no {what} within {time.monotonic() - start:.0f} s{gone}; the console:\n{self.shown()[-6000:]}")

    def shown(self) -> str:
        """What the console showed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def last_line(self) -> str:
        lines = [line for line in self.shown()[-4000:].replace("\r", "\n").splitlines() if line.strip()]
        return "".join(char for char in lines[-1] if char.isprintable())[-120:] if lines else "nothing yet"

    @contextlib.contextmanager
    def console(self) -> Iterator[Console]:
        with console(self.folder / "console.sock") as person:
            yield person

    # ---- what it is made of

    def prepare(self) -> None:
        """Layer, firmware settings, TPM: what is there already stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tpm.mkdir(exist_ok=True)
        if not (self.folder / "vars.fd").exists():
            shutil.copyfile(FIRMWARE[1], self.folder / "vars.fd")
        if not self.layer.exists():
            command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self.disk.resolve()), "-F", "raw", str(self.layer), "8G"]
            subprocess.run(command, check=True)
        for name, value in self.credentials.items():
            entry = self.folder / f"smbios.{name}"
            entry.touch(mode=0o600)
            entry.write_text(f"io.systemd.credential.binary:{name}={base64.b64encode(value).decode()}")

    def _start_tpm(self) -> None:
        socket = self.folder / "tpm.sock"
        socket.unlink(missing_ok=True)
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.tpm.resolve()}", "--ctrl", f"type=unixio,path={socket.resolve()}"]
        self._processes.append(self._popen(command, "swtpm.log"))
        until = time.monotonic() + 30
        while not socket.exists():
            assert time.monotonic() < until, f"swtpm does not start:\n{(self.folder / 'swtpm.log').read_text()}"
            time.sleep(0.1)

    def _popen(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as said:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)

    def _qemu(self) -> list[str]:
        folder = self.folder.resolve()
        drive = []
        if self.drive is not None:
            device, file = self.drive
            drive = ["-drive", f"if=none,id=config,file={file.resolve()},format=raw,readonly=on", "-device", f"{device},drive=config"]
        smbios = [word for name in self.credentials for word in ("-smbios", f"type=11,path={folder}/smbios.{name}")]
        return [
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "1", "-m", self.memory,
            "-nodefaults", "-display", "none",
            "-chardev", f"socket,id=console,path={folder}/console.sock,server=on,wait=off,logfile={folder}/console.log,logappend=on",
            "-serial", "chardev:console",
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE[0]}",
            "-drive", f"if=pflash,unit=1,format=raw,file={folder}/vars.fd",
            "-drive", f"if=none,id=disk,file={self.layer.resolve()},format=qcow2,cache=unsafe", "-device", "virtio-blk-pci,drive=disk",
            "-chardev", f"socket,id=tpm,path={folder}/tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
            "-device", "tpm-crb,tpmdev=tpm0",
            "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no", "-device", f"virtio-net-pci,netdev=net,mac={MAC}",
            "-device", "virtio-rng-pci", "-uuid", "11111111-2222-4333-8444-555555555555", *smbios, *drive,
        ]  # fmt: skip

    def _ssh_options(self) -> list[str]:
        options = (*_OPTIONS, f"UserKnownHostsFile={self.folder}/known_hosts", f"ControlPath={self.folder}/ssh")
        return ["-i", str(self.key), *(word for option in options for word in ("-o", option))]

    def _disconnect(self) -> None:
        argv = ["ssh", *self._ssh_options(), "-O", "exit", f"ops@{GATEWAY}"]
        subprocess.run(argv, check=False, capture_output=True, timeout=30)

    def _boot_or_none(self) -> str | None:
        """A connection of its own each time: one into the boot that ends would hang."""
        try:
            done = self.ssh("cat /proc/sys/kernel/random/boot_id", seconds=90)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self._disconnect()
        return done.stdout.strip() if done.returncode == 0 else None
