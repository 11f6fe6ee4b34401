"""Sessions: prefixes are taken as they are, bare names are looked up; a pattern has their keys."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from edge_client.errors import BadUsage, NotConfigured, SessionAmbiguous, SessionNotFound
from edge_client.services.edge import Edge
from edge_client.session import DEFAULT, RecordingPattern, Session
from edge_client.settings import load
from tests.fakes.servers import S3Server

PATTERNS = (
    DEFAULT.text,
    "calls/{stem}.mp3",
    "{session}.m4a",
    "{user}/{session}/{stem}.wav",
    "a.b/{session}-{user}.tar.opus",
    "*/x-*/{user}/rec-{session}.ogg",
)


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


words = st.text(st.sampled_from("ab.-_/ \n+%é{}*"), min_size=1, max_size=5)
patterns = st.sampled_from(PATTERNS).map(RecordingPattern)


def is_shaped(key: str, pattern: str) -> bool:
    """Tell what a pattern matches in another way: each folder by itself."""
    shapes = [re.sub(r"\{\w+\}|\*", "?*", part) for part in pattern.split("/")]
    parts = key.split("/")
    return len(parts) == len(shapes) and all(map(fnmatchcase, parts, shapes))


@given(pattern=patterns, values=st.lists(words, min_size=3, max_size=3), more=words)
@example(RecordingPattern("calls/{stem}.mp3"), ["", "a.b", "x"], ".mp3")
@example(RecordingPattern("a.b/{session}-{user}.tar.opus"), ["c", "a-b", "x"], ".")
def test_key_leads_to_its_session_and_back_and_nothing_else_is_a_recording(
    pattern: RecordingPattern, values: list[str], more: str
) -> None:
    user, name, stem = values
    user = user if "{user}" in pattern.text else ""
    session = pattern.place(user, name, stem)
    could = not any("/" in value or value in (".", "..") for value in (user, name, stem))
    if could and "*" not in pattern.text and "-{user}" not in pattern.text:
        assert session is not None
    assume(session is not None)
    assert (session.user, session.name) == (user, name)
    key = session.audio_key
    assert pattern.match(key) == session
    assert pattern.parse(session.prefix) == session
    results = (session.result_key, session.claim_key, session.progress_key)
    stem = "" if pattern.is_default else key.removesuffix(pattern.ending).rpartition("/")[2] + "."
    assert session.result_key == f"{key.rpartition('/')[0]}/{stem}transcription.json".lstrip("/")
    near = (key + more, more + key, key.replace("/", more, 1), key.replace(".", "x"))
    for other in (*results, *near):
        found = pattern.match(other)
        assert (found is not None) == is_shaped(other, pattern.text)
        assert found is None or found.audio_key == other
    assert not any(map(pattern.match, results))
    assert key.startswith(pattern.begins(user))
    assert all(each.startswith(session.beside) for each in (key, *results))


def test_what_is_beside_a_recording_is_none() -> None:
    folder = "users/u/audio/sessions/s"
    assert DEFAULT.match(f"{folder}/audio.wav") == Session("u", "s")
    others = ("chunk-001.webm", "audio.wav.bak", "x/audio.wav", "Audio.wav", "transcription.json")
    assert not any(DEFAULT.match(f"{folder}/{name}") for name in others)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("calls/{name}.mp3", r"the names are \{user\}, \{session\}, \{stem\} and \*"),
        ("calls/{stem.mp3", "the names are"),
        ("{user}/{user}/{stem}.mp3", "once"),
        ("calls/{user}/*.mp3", "tell recordings apart"),
        ("{user}{session}.mp3", "between two names"),
        ("calls/{stem}", "ends as the files do"),
        ("calls/x.{session}", "ends as the files do"),
        ("{session}/.wav", "ends as the files do"),
        ("calls/{stem}.json", "results end with .json"),
        ("calls/x-{stem}.mp3", "all of the file's name"),
        ("/calls/{stem}.mp3", "without a slash"),
        ("s3://b/{stem}.mp3", "without a slash or a bucket"),
    ],
)
def test_bad_pattern_is_refused_with_its_fault_and_an_example(
    pattern: str, why: str, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDING_PATTERN", pattern)
    with pytest.raises(NotConfigured, match=rf"RECORDING_PATTERN.*{why}.*calls/{{user}}/{{stem}}"):
        load(env_file)


def test_s3_url_names_a_recording_of_this_bucket_alone(edge: Edge, s3: S3Server) -> None:
    session = Session("u", "s +%41")
    assert edge.session(f"s3://recordings/{session.audio_key}") == session
    with pytest.raises(BadUsage, match="not in the bucket recordings: see COGNITO_S3_BUCKET"):
        edge.session(f"s3://recordings2/{session.audio_key}")
    for other in ("calls/x.mp3", session.result_key, session.prefix):
        with pytest.raises(BadUsage, match="no recording by RECORDING_PATTERN"):
            edge.session(f"s3://recordings/{other}")
    assert s3.calls == []


def test_names_are_looked_up_by_the_pattern(
    env_file: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pattern, key, name in (
        ("calls/{stem}.mp3", "calls/a.mp3", "a"),
        ("{session}.m4a", "a.m4a", "a"),
        ("calls/{user}/{session}/x.wav", "calls/u/a/x.wav", "a"),
    ):
        monkeypatch.setenv("RECORDING_PATTERN", pattern)
        edge = Edge(load(env_file))
        s3.put(key, b"x")
        found = [edge.session(text) for text in (key, name, f"s3://recordings/{key}")]
        assert {(each.name, each.prefix, each.audio_key) for each in found} == {(name, key, key)}
        with pytest.raises(SessionNotFound, match="RECORDING_PATTERN"):
            edge.session("b")
