"""Start the image's command where there is no container engine, as one would that is strict.

``python -m image.start [--network none|host] [--bind DIR] CONFIG ROOT [COMMAND…]`` runs as root.
The command is process 1 of its own process space, an unprivileged user without capabilities; its
root is read-only, and `/tmp` is the one folder on a disk that it may write to. SIGTERM and SIGINT
go on to it; its exit code is ours.

Args of the process: CONFIG is the image's configuration as JSON (`Env`, `Cmd`, `User`,
`WorkingDir`), ROOT its files, DIR what to show at /mnt. This process's variables are passed on,
the image's own win.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1, 2, 4, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG = 38, 1
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
DEVICES = ("null", "zero", "full", "random", "urandom")
NOT_PASSED_ON = ("TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the command, pass signals on, and return its exit code."""
    options = _parser().parse_args(arguments)
    config = json.loads(options.config.read_text(encoding="utf-8"))
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWPID))
    if options.network == "none":
        _check(_libc.unshare(CLONE_NEWNET))
        _bring_loopback_up()
    child = os.fork()
    if child == 0:
        _become(config, options.root.resolve(), options.bind, options.command or config["Cmd"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _forwarder(child))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _forwarder(child: int) -> Any:
    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    return forward


def _become(config: dict[str, Any], root: Path, lent: Path | None, command: list[str]) -> None:
    """Turn this process into the image's; never returns."""
    try:
        _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        _enter(root, lent)
        os.chdir(config.get("WorkingDir") or "/")
        _drop_rights(config["User"])
        environ = {k: v for k, v in os.environ.items() if k not in NOT_PASSED_ON}
        environ |= dict(entry.split("=", 1) for entry in config["Env"])
        os.execvpe(command[0], command, environ)
    except BaseException as exc:  # a second copy of this program must not go on
        print(f"image.start: {exc}", file=sys.stderr, flush=True)
    os._exit(127)


def _enter(root: Path, lent: Path | None) -> None:
    """Have the image's files as the root, read-only but for /tmp and shared memory."""
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount(str(root), str(root), None, MS_BIND)
    _mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV)
    _mount("tmpfs", f"{root}/dev", "tmpfs", MS_NOSUID)
    for name in DEVICES:
        Path(root, "dev", name).touch()
        _mount(f"/dev/{name}", f"{root}/dev/{name}", None, MS_BIND)
    Path(root, "dev", "shm").mkdir()
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV)
    _mount("tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV)
    for folder in (root / "tmp", root / "dev" / "shm"):
        folder.chmod(0o1777)
    if lent is not None:
        _mount(str(lent), f"{root}/mnt", None, MS_BIND)
        _mount("none", f"{root}/mnt", None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    _mount("none", str(root), None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    _mount("none", f"{root}/dev", None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    os.chroot(root)


def _drop_rights(user: str) -> None:
    uid, gid = (int(part) for part in user.split(":"))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), None), target)


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def _check(result: int, what: str = "") -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m image.start")
    parser.add_argument("--network", choices=("none", "host"), default="none")
    parser.add_argument("--bind", type=Path, metavar="DIR")
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
