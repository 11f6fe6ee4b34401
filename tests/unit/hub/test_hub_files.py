"""RunPod's hub reads `.runpod/`: the files have its shape, and say nothing that we do not do."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[3]
HUB, TESTS = (json.loads((ROOT / f".runpod/{name}.json").read_text()) for name in ("hub", "tests"))
VARIABLES = {variable["key"]: variable["input"] for variable in HUB["config"]["env"]}
PRESETS = {preset["name"]: preset["defaults"] for preset in HUB["config"]["presets"]}


def settings(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> WorkerSettings:
    """Start with variables as RunPod would set them."""
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    return WorkerSettings()


@pytest.mark.parametrize(("document", "schema"), [(HUB, "hub"), (TESTS, "tests")])
def test_files_have_the_shape_that_the_hub_reads(document: Any, schema: str) -> None:
    definition = json.loads(Path(__file__).with_name(f"{schema}.schema.json").read_text())
    jsonschema.validate(document, definition, jsonschema.Draft202012Validator)


def test_every_variable_is_one_that_the_worker_reads() -> None:
    known = {name.upper() for name in WorkerSettings.model_fields}
    tested = {variable["key"] for variable in TESTS["config"]["env"]}
    offered = {key for defaults in PRESETS.values() for key in defaults}
    assert (set(VARIABLES) | tested | offered) - known == set()


def test_defaults_are_the_workers_own_where_it_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = settings(monkeypatch, {key: v["default"] for key, v in VARIABLES.items()})
    for name in ("max_audio_seconds", "max_audio_bytes", "recycle_growth"):
        assert getattr(ours, name) == WorkerSettings.model_fields[name].default
    assert ours.allowed_url_hosts == (".amazonaws.com",)
    empty = settings(monkeypatch, dict.fromkeys(VARIABLES, ""))
    assert empty == WorkerSettings.model_construct()  # as if unset


def test_presets_are_the_models_that_are_offered_and_baked_into_a_release() -> None:
    models = {defaults["WHISPER_MODEL"] for defaults in PRESETS.values()}
    assert {option["value"] for option in VARIABLES["WHISPER_MODEL"]["options"]} == models
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    baked = release["jobs"]["publish"]["env"]["WHISPER_MODEL"].split(",")
    assert set(baked) == models
    assert baked[0] == VARIABLES["WHISPER_MODEL"]["default"]
    pins = tomllib.loads((ROOT / "builder/models.toml").read_text(encoding="utf-8"))
    known = {m["name"]: m.get("languages") for m in pins["production"]["models"]}
    languages = {name: known[preset["WHISPER_MODEL"]] for name, preset in PRESETS.items()}
    assert languages == {"accurate": None, "fast": None, "English": ["en"]}


def test_nothing_that_is_shipped_takes_loopback_urls() -> None:
    shipped = [*(ROOT / ".runpod").iterdir(), *(ROOT / "deploy").rglob("*"), ROOT / "Dockerfile"]
    for path in shipped:
        assert path.is_dir() or "ALLOW_LOOPBACK_URLS" not in path.read_text("utf-8"), path
