"""The shipped units and the cron line: systemd takes them, and they run what there is."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_client.cli import cli

ROOT = Path(__file__).parents[3]
UNITS = sorted((ROOT / "deploy/systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
CRON = ROOT / "deploy/cron/bucketscribe"
INSTALLED = "/opt/bucketscribe/bin/edge-client"


@pytest.fixture(scope="module")
def analyze() -> str:
    """Where `systemd-analyze` is. Without it: skipped, but in CI installed, or red."""
    if shutil.which("systemd-analyze") is None and os.environ.get("CI"):
        for words in (["update"], ["install", "--yes", "--no-install-recommends", "systemd"]):
            subprocess.run(["apt-get", "--quiet", *words], check=True)
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not here: install the package systemd")
    return found


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, their program replaced by one that is on every machine."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace(INSTALLED, "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    return [str(tmp_path / unit.name) for unit in UNITS]


def read(unit: Path) -> configparser.RawConfigParser:
    """Read a unit; of keys that come twice the last."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit, encoding="utf-8")
    return parser


def exec_start(service: Path) -> str:
    """Return what a service runs."""
    return read(service)["Service"]["ExecStart"]


def cron_command() -> str:
    """Return what the cron line runs, from the edge client on."""
    (line,) = [x for x in CRON.read_text(encoding="utf-8").splitlines() if not x.startswith("#")]
    return line[line.index(INSTALLED) :]


def test_systemd_takes_the_units(analyze: str, units: list[str]) -> None:
    done = subprocess.run(
        [analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_notice_a_wrong_unit(analyze: str, tmp_path: Path, units: list[str]) -> None:
    broken = tmp_path / "bucketscribe-batch.service"
    broken.write_text(broken.read_text().replace("UMask=", "UMusk="))
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, check=False)
    assert b"UMusk" in done.stderr


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.stem)
def test_a_service_may_do_little(analyze: str, tmp_path: Path, service: Path) -> None:
    """Exposure below 2 of 10, by systemd's own scale."""
    done = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=20", str(service)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "command", [*map(exec_start, SERVICES), cron_command()], ids=["batch", "webhook", "cron"]
)
def test_what_is_run_is_a_command_line_of_the_edge_client(tmp_path: Path, command: str) -> None:
    (tmp_path / "edge.env").touch()
    for name in ("${CREDENTIALS_DIRECTORY}", "${STATE_DIRECTORY}", "/etc/bucketscribe"):
        command = command.replace(name, str(tmp_path))
    command = command.replace("/var/lib/bucketscribe", str(tmp_path))
    program, *arguments = shlex.split(command)
    assert program == INSTALLED
    done = CliRunner().invoke(cli, [*arguments, "--help"])  # an unknown option comes first
    assert (done.exit_code, "Usage" in done.output) == (0, True), done.output


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.stem)
def test_keys_are_given_to_the_service_alone(service: Path) -> None:
    """As a credential: systemd reads root's file, and the user is made for the service."""
    section = read(service)["Service"]
    assert section["LoadCredential"] == "edge.env:/etc/bucketscribe/edge.env"
    assert section["DynamicUser"] == "yes"
    assert "Environment" not in section
    assert "EnvironmentFile" not in section


def test_a_second_batch_does_not_start_beside_the_first() -> None:
    assert "flock --nonblock" in CRON.read_text(encoding="utf-8")
    assert read(SERVICES[0])["Service"]["Type"] == "oneshot"  # a timer never starts a running unit
