"""Mirrors, and what may not be one."""

import pytest

from builder.errors import PinError
from builder.pins import Places

PLACES = Places(
    hub="https://hub.example", torchaudio="https://t.example/m", nltk="https://n.example"
)


def test_mirror_replaces_one_place() -> None:
    """The others stay."""
    places = PLACES.overridden({"TORCHAUDIO_MODELS_URL": "https://mirror.example/models/"})
    assert places.torchaudio == "https://mirror.example/models"
    assert places.hub == PLACES.hub


@pytest.mark.parametrize(
    "url", ["http://hub.example", "ftp://hub.example", "hub.example", "https://u:p@hub.example"]
)
def test_place_that_would_send_the_token_in_the_clear_is_refused(url: str) -> None:
    """Or record a password in the image."""
    with pytest.raises(PinError, match="HF_ENDPOINT must be an https URL"):
        PLACES.overridden({"HF_ENDPOINT": url})


def test_this_machine_may_speak_http() -> None:
    """Tests and caches do."""
    url = "http://127.0.0.1:8080"
    assert PLACES.overridden({"HF_ENDPOINT": url}).hub == url
