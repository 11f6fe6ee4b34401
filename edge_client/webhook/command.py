"""``edge-client webhook``: its options. click alone is imported; see `edge_client.cli`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_client.options import as_json_flag, env_file_of_group
from edge_client.report import Report


@click.group(no_args_is_help=False)
def webhook() -> None:
    """Receive RunPod's callbacks when jobs end."""


@webhook.command()
@click.option(
    "--listen",
    default="127.0.0.1:8787",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the TLS proxy forwards to. Port 0: any free one.",
)
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Holds the secret of the URL. Default: the setting WEBHOOK_SECRET.",
)
@env_file_of_group
def serve(env_file: Path | None, listen: str, secret_file: Path | None) -> int:
    """Finish each session that RunPod calls about.

    Serves plain HTTP for a TLS proxy, POST /…/SECRET/SESSION and GET /health, until SIGTERM or
    Ctrl-C. A callback only says where to look: RunPod's /status and S3 decide, and what fails is
    recovered as by `wait`. Nothing is lost while it is down: `batch` and `wait` find every job
    in S3.
    """
    from edge_client.webhook import serve as serve_

    return serve_.serve(env_file, Report(as_json=False), listen, secret_file)


@webhook.command()
@click.option(
    "--base",
    default="https://HOST/PATH",
    show_default=True,
    metavar="URL",
    help="Where the TLS proxy answers.",
)
@as_json_flag
def secret(base: str, as_json: bool) -> int:
    """Print a fresh secret, and the --webhook to use with it."""
    from edge_client.webhook.secret import fresh
    from edge_client.webhook.url import PLACEHOLDER, checked

    value = fresh()
    url = checked(f"{base.rstrip('/')}/{value}/{PLACEHOLDER}", runpod_url="")
    report = Report(as_json)
    report.result(
        {"secret": value, "webhook": url},
        f"WEBHOOK_SECRET={value}\n# submit with: --webhook '{url}'",
    )
    return 0
