"""Sessions: prefixes are taken as they are, bare names are looked up."""

import re

import pytest

from edge_client.errors import BadUsage, SessionAmbiguous, SessionNotFound
from edge_client.services.edge import Edge
from edge_client.session import Session
from tests.fakes.servers import S3Server


def test_prefix_is_taken_without_a_call_and_others_are_refused(edge: Edge, s3: S3Server) -> None:
    session = edge.session("users/u 1/audio/sessions/ä+%41/")
    assert session.audio_key == "users/u 1/audio/sessions/ä+%41/audio.wav"
    whole = "users/u1/audio/sessions/"
    for text in (whole, "users//audio/sessions/s", "a/b", "", f"{whole}s/audio.wav", f"x{whole}s"):
        with pytest.raises(BadUsage, match="users/USER/audio/sessions/NAME"):
            edge.session(text)
    assert s3.calls == []


@pytest.mark.parametrize("name", ["s1", "a+b%41 ünï", "a&b<c>"])
def test_bare_name_is_found_under_its_user_alone(edge: Edge, s3: S3Server, name: str) -> None:
    for user in ("u1", "u2", "u3", "ü 4", "u5"):  # more than one page of users
        s3.put(f"users/{user}/audio/sessions/{name}0/audio.wav", b"x")
    with pytest.raises(SessionNotFound, match=re.escape(name)):
        edge.session(name)
    s3.put(f"users/ü 4/audio/sessions/{name}/audio.wav", b"x")
    assert edge.session(name) == Session("ü 4", name)
    s3.put(f"users/u2/audio/sessions/{name}/audio.wav", b"x")
    with pytest.raises(SessionAmbiguous, match=rf"^2 users.* users/u2/.*/{re.escape(name)}, users"):
        edge.session(name)
