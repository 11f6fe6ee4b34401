"""The shipped units: systemd takes them, and they give a service few rights."""

from __future__ import annotations

import configparser
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
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="install the package systemd")


def section(service: Path) -> configparser.SectionProxy:
    """Read what a service runs and how; of keys that come twice the last."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(service, encoding="utf-8")
    return parser["Service"]


def exec_start(service: Path) -> str:
    return section(service)["ExecStart"]


def analyze(*arguments: str) -> str:
    command = [str(ANALYZE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr + (done.stdout if done.returncode else "")


@needs_systemd
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace(INSTALLED, "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    units = [str(tmp_path / unit.name) for unit in UNITS]
    assert analyze("verify", "--man=no", *units) == ""
    broken = tmp_path / SERVICES[0].name
    broken.write_text(broken.read_text().replace("UMask=", "UMusk="))
    assert "UMusk" in analyze("verify", "--man=no", *units)


@needs_systemd
def test_a_services_exposure_is_below_2_of_10() -> None:
    for service in map(str, SERVICES):
        assert analyze("security", "--offline=yes", "--threshold=20", service) == ""


def test_the_receivers_command_line_is_the_edge_clients() -> None:
    """The end-to-end tests run that of the batch, and cron's."""
    program, env_option, _, *arguments = exec_start(SERVICES[1]).split()
    assert (program, env_option) == (INSTALLED, "--env-file")
    done = CliRunner().invoke(cli, [*arguments, "--help"])  # an unknown option comes first
    assert done.exit_code == 0, done.output


def test_keys_are_a_credential_of_the_service_alone() -> None:
    for keys in map(section, SERVICES):
        assert keys["LoadCredential"] == "edge.env:/etc/bucketscribe/edge.env"
        assert keys["DynamicUser"] == "yes"
        assert not {"Environment", "EnvironmentFile"} & set(keys)


def test_a_second_batch_does_not_start_beside_the_first() -> None:
    assert "flock --nonblock" in CRON.read_text(encoding="utf-8")
    assert section(SERVICES[0])["Type"] == "oneshot"  # a timer never starts a running unit
