"""The receiver's secret: strong, never shown, and no answer's time tells of it."""

import hmac
from pathlib import Path

import pytest
from pydantic import SecretStr

from bucketscribe_contract.redact import scrub
from edge_client.errors import NotConfigured
from edge_client.settings import load as load_settings
from edge_client.webhook.server import Secret, fresh_secret, load_secret

GOOD = "0123456789abcdef"


@pytest.mark.parametrize("value", ["", "short", GOOD[:15], GOOD + "/", GOOD + "ü", "a" * 129])
def test_weak_or_unfit_secret_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(NotConfigured, match="webhook secret") as caught:
        Secret(value)
    assert not value or value not in str(caught.value)


def test_fresh_secrets_are_fit_and_differ() -> None:
    assert fresh_secret() != fresh_secret()
    assert Secret(fresh_secret()).place_in(["x"]) is None


def test_secret_is_found_wherever_a_proxy_mounts_the_path() -> None:
    secret = Secret(GOOD)
    assert secret.place_in(["", "hooks", GOOD, "users"]) == 2
    assert secret.place_in(["", GOOD]) == 1
    for wrong in ([], [""], ["", GOOD[:-1]], ["", GOOD + "0"], ["", GOOD.upper()], ["\udcff"]):
        assert secret.place_in(wrong) is None


def test_every_segment_is_compared_in_constant_time_whatever_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = Secret(GOOD)
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for segments in (["", GOOD, "x"], ["", "0" * 16, "x"], ["", "", ""]):
        compared.clear()
        secret.place_in(segments)
        assert compared == [(32, 32)] * 3


def test_file_goes_before_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(GOOD + "\n")
    assert load_secret(file, SecretStr("another-secret-of-24-ch")).place_in([GOOD]) == 0
    assert load_secret(None, SecretStr(GOOD)).place_in([GOOD]) == 0


def test_missing_secret_names_the_command_that_makes_one(tmp_path: Path) -> None:
    for file in (None, tmp_path / "absent"):
        with pytest.raises(NotConfigured, match="edge-client webhook secret"):
            load_secret(file, None)


def test_secret_is_in_no_repr_and_no_log_line(monkeypatch: pytest.MonkeyPatch) -> None:
    value = fresh_secret()
    monkeypatch.setenv("WEBHOOK_SECRET", value)
    settings = load_settings()
    assert value not in repr(settings)
    assert scrub(f"POST /hooks/{value}/x") == "POST /hooks/***/x"
    other = fresh_secret()
    assert other not in repr(Secret(other))
    assert other not in scrub(f"POST /hooks/{other}/x")
