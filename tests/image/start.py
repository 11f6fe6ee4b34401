"""Start a command of the image without a container engine, by bubblewrap.

``python -m tests.image.start [--network none|host] [--bind DIR] CONFIG ROOT [COMMAND…]``, as root.
CONFIG is the image's configuration as JSON, ROOT its files, DIR a folder to show at /mnt. The
command is process 1, unprivileged, on a read-only root where only /tmp can be written to. SIGTERM
and SIGINT are passed on to it; its exit code is returned.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOT_PASSED_ON = ("TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
SANDBOX = (
    "--proc", "/proc", "--dev", "/dev",
    "--perms", "1777", "--tmpfs", "/dev/shm", "--perms", "1777", "--tmpfs", "/tmp",  # noqa: S108
    "--unshare-pid", "--as-pid-1", "--die-with-parent",
    "--cap-drop", "ALL",
    # for setpriv, which gives them up
    "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP",
)  # fmt: skip


def sandboxed(
    config: Mapping[str, Any], root: Path, command: Sequence[str], network: str, lent: Path | None
) -> list[str]:
    """Return the command line of bubblewrap that runs a command in the image.

    Args:
        config: `Env`, `Cmd`, `User` and `WorkingDir` of the image.
        root: Its files.
        command: What to run; the image's own command if empty.
        network: ``none`` but loopback, or ``host``.
        lent: A folder to show at /mnt, if any.
    """
    words = ["bwrap", "--ro-bind", str(root), "/", *SANDBOX]
    words += ["--unshare-net"] if network == "none" else []
    words += ["--ro-bind", str(lent), "/mnt"] if lent else []
    words += ["--chdir", config.get("WorkingDir") or "/"]
    for entry in config["Env"]:
        words += ["--setenv", *entry.split("=", 1)]
    uid, gid = config["User"].split(":")
    user = ["--reuid", uid, "--regid", gid, "--clear-groups", "--bounding-set=-all"]
    user += ["--inh-caps=-all", "--no-new-privs"]
    return [*words, "--", "setpriv", *user, "--", *(command or config["Cmd"])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the command, pass signals on, and return its exit code."""
    options = _parser().parse_args(arguments)
    config = json.loads(options.config.read_text(encoding="utf-8"))
    command = sandboxed(config, options.root, options.command, options.network, options.bind)
    told, tell = os.pipe()
    command[1:1] = ["--info-fd", str(tell)]
    environ = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    with subprocess.Popen(command, env=environ, pass_fds=[tell]) as process:
        os.close(tell)
        with os.fdopen(told) as info:
            child = json.loads(info.read() or "{}").get("child-pid", process.pid)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: os.kill(child, number))
        return process.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.image.start")
    parser.add_argument("--network", choices=("none", "host"), default="none")
    parser.add_argument("--bind", type=Path, metavar="DIR")
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
