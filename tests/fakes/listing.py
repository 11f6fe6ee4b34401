"""ListObjectsV2 as S3 answers it, and as SeaweedFS does, over a dict of objects.

S3 sorts whole keys bytewise; SeaweedFS walks folders, so ``a/`` comes before ``a b/`` there and
after it in S3. Both take any string as ``start-after``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus, unquote_plus
from xml.sax.saxutils import escape

Order = Callable[[str], Any]


@dataclass
class Stored:
    """An object."""

    body: bytes
    modified_at: datetime
    content_type: str | None = None
    storage_class: str = "STANDARD"
    is_restored: bool = False

    @property
    def is_archived(self) -> bool:
        """Whether a GET is refused; a listing does not know what was restored."""
        return self.storage_class == "GLACIER" and not self.is_restored

    @property
    def etag(self) -> str:
        """As S3 makes it: MD5, quoted."""
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'


def bytewise(key: str) -> Any:
    """Sort as S3 does."""
    return key.encode()


def by_folders(key: str) -> Any:
    """Sort as SeaweedFS does."""
    return [part.encode() for part in key.split("/")]


def page_of(
    keys: Iterable[str], order: Order, prefix: str, after: str, delimiter: str, limit: int
) -> tuple[list[str], list[str], bool]:
    """Return one page: keys, common prefixes, and whether there are more.

    ``after`` is a key or a common prefix of an earlier page, or any other string.
    """
    entries: dict[str, bool] = {}
    for key in sorted((k for k in list(keys) if k.startswith(prefix)), key=order):
        if after and order(key) <= order(after):
            continue
        head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        name = prefix + head + cut if cut else key
        if not (cut and name == after):
            entries[name] = bool(cut)
        if len(entries) > limit:
            break
    page = list(entries.items())[:limit]
    found = [name for name, is_folder in page if not is_folder]
    folders = [name for name, is_folder in page if is_folder]
    return found, folders, len(entries) > limit


def answer_to(objects: Mapping[str, Stored], asked: Mapping[str, str], page_keys: int) -> bytes:
    """Answer a LIST; its continuation token is the last entry of its page."""
    after = unquote_plus(asked.get("continuation-token", "")) or asked.get("start-after", "")
    limit = min(page_keys, int(asked.get("max-keys", "1000")))
    prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
    keys, folders, more = page_of(objects, bytewise, prefix, after, delimiter, limit)
    is_url = asked.get("encoding-type") == "url"
    shown = quote_plus if is_url else escape
    parts = [f"<IsTruncated>{str(more).lower()}</IsTruncated>"]
    parts += ["<EncodingType>url</EncodingType>"] * is_url
    parts += [_entry(shown(key), objects[key]) for key in keys]
    parts += [f"<CommonPrefixes><Prefix>{shown(f)}</Prefix></CommonPrefixes>" for f in folders]
    if more:
        last = max([*keys, *folders], key=bytewise, default="")
        parts.append(f"<NextContinuationToken>{quote_plus(last)}</NextContinuationToken>")
    return f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode()


def _entry(shown_key: str, stored: Stored) -> str:
    return (
        f"<Contents><Key>{shown_key}</Key><LastModified>{stored.modified_at:%Y-%m-%dT%H:%M:%S}.000Z"
        f"</LastModified><ETag>{escape(stored.etag)}</ETag><Size>{len(stored.body)}</Size>"
        f"<StorageClass>{stored.storage_class}</StorageClass></Contents>"
    )
