"""A production profile of tiny files, and the hub that has them."""

from __future__ import annotations

import hashlib
import io
import zipfile

from builder.pins import (
    Distribution,
    HubModel,
    HubProfile,
    Mirrors,
    PackageProfile,
    PinnedFile,
    PinnedModel,
)
from tests.fakes.hub import Hub, commit_of

WHISPER = "Systran/faster-whisper-large-v3"
SMALLER = "Systran/faster-whisper-small.en"
DUTCH = "jonatasgrosman/wav2vec2-large-xlsr-53-dutch"
JAPANESE = "jonatasgrosman/wav2vec2-large-xlsr-53-japanese"
COMMUNITY = "pyannote/speaker-diarization-community-1"
GERMAN_FILE = "wav2vec2_voxpopuli_base_10k_asr_de.pt"
PUNKT_FILE = "tokenizers/punkt_tab.zip"
WEIGHTS_BYTES = 900_000
TABLES = ("abbrev_types.txt", "sent_starters.txt", "collocations.tab", "ortho_context.tab")


def noise(seed: str, count: int) -> bytes:
    """Bytes that no two files share."""
    return hashlib.shake_256(seed.encode()).digest(count)


def sha256(content: bytes) -> str:
    """The SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def punkt_zip() -> bytes:
    """An archive as NLTK's, with something in it that does not belong."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for language in ("english", "german"):
            for table in TABLES:
                archive.writestr(f"punkt_tab/{language}/{table}", f"{language} {table}")
        archive.writestr("punkt_tab/README", "read me")
        archive.writestr("punkt_tab/../../escaped.txt", "out")
    return buffer.getvalue()


def fill(hub: Hub) -> None:
    """Put every repository and plain file of the profile into a hub."""
    whisper = ("README.md", ".gitattributes", "config.json", "tokenizer.json", "vocabulary.txt")
    for repo in (WHISPER, SMALLER):
        hub.repos[repo] = _files(repo, *whisper) | {"model.bin": noise(repo, WEIGHTS_BYTES)}
    aligner = ("config.json", "preprocessor_config.json", "vocab.json", "special_tokens_map.json")
    others = ("pytorch_model.bin", "flax_model.msgpack", "language_model/lm.binary")
    for repo in (DUTCH, JAPANESE):
        hub.repos[repo] = _files(repo, *aligner, *others)
    hub.repos[DUTCH] |= _files(DUTCH, "model.safetensors")
    weights = [f"{part}/pytorch_model.bin" for part in ("segmentation", "embedding")]
    plda = ("plda/plda.npz", "plda/xvec_transform.npz")
    hub.repos[COMMUNITY] = _files(COMMUNITY, "README.md", "config.yaml", *weights, *plda)
    hub.gated.add(COMMUNITY)
    hub.plain[f"torchaudio/{GERMAN_FILE}"] = noise(GERMAN_FILE, WEIGHTS_BYTES)
    hub.plain[f"nltk/{PUNKT_FILE}"] = punkt_zip()


def _files(repo: str, *names: str) -> dict[str, bytes]:
    return {name: noise(repo + name, 5000) for name in names}


def profile_of(hub: Hub) -> HubProfile:
    """The pins of what `fill` made; Dutch is not pinned."""
    weights = {"model.bin": sha256(hub.repos[WHISPER]["model.bin"])}
    bundle = "VOXPOPULI_ASR_BASE_10K_DE"
    german = {"licence": "CC-BY-NC-4.0", "languages": ("de",), "torchaudio_bundle": bundle}
    models = (
        hub_model("whisper", "large-v3", WHISPER, sha256=weights),
        hub_model("whisper", "small.en", SMALLER, languages=("en",)),
        hub_model("align", "xlsr-53-japanese", JAPANESE, languages=("ja",)),
        hub_model("align", "xlsr-53-dutch", DUTCH, languages=("nl",), revision=None),
        hub_model("diarization", "community-1", COMMUNITY, gated=True),
        plain_model("align", bundle, GERMAN_FILE, hub.plain[f"torchaudio/{GERMAN_FILE}"], **german),
        plain_model("nltk_data", "punkt_tab", PUNKT_FILE, hub.plain[f"nltk/{PUNKT_FILE}"]),
    )
    nowhere = "https://hub.invalid"
    mirrors = Mirrors(hub=nowhere, torchaudio=nowhere, nltk=nowhere)
    return HubProfile(mirrors=mirrors, packaged=_packaged(), models=models)


def hub_model(kind: str, name: str, repo: str, **more: object) -> HubModel:
    """Pin a repository, at its commit."""
    values = {"licence": "MIT", "revision": commit_of(repo)} | more
    return HubModel.model_validate({"kind": kind, "name": name, "repo": repo, **values})


def plain_model(kind: str, name: str, file: str, content: bytes, **more: object) -> HubModel:
    """Pin a plain file, by its checksum."""
    pin = {"file": file, "file_bytes": len(content), "sha256": {file: sha256(content)}}
    values = {"kind": kind, "name": name, "licence": "Apache-2.0"}
    return HubModel.model_validate(values | pin | more)


def _packaged() -> PackageProfile:
    """The speech detector, from this repository instead of from whisperx's 18 MB."""
    config = PinnedFile(
        package="builder",
        file="align_en_tiny/config.json",
        sha256="88f9cb5ebed208dc84077768d5b3c89d458fd99d5352b7a608673abd0e3980c9",
        to="pytorch_model.bin",
    )
    detector = PinnedModel(kind="vad", name="detector", folder="vad", files=(config,))
    return PackageProfile(
        distributions={"builder": Distribution(version="0", licence="MIT")}, models=(detector,)
    )
