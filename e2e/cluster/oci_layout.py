"""A folder of images in the OCI image layout: what the local cluster's node imports.

Layers that images share lie there once, and travel once in an archive of several images.
"""

import hashlib
import io
import json
import os
import platform
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from e2e.cluster.errors import ClusterError

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
REFERENCE = "org.opencontainers.image.ref.name"
MEDIA = "application/vnd.oci.image"
LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
KEPT_TAGS = 3

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class ScratchImage:
    """An image of a few files and nothing else.

    `files` maps paths in the image to programs on disk, `contents` to text.
    """

    reference: str
    files: Mapping[str, Path]
    entrypoint: Sequence[str]
    arguments: Sequence[str] = ()
    contents: Mapping[str, str] | None = None
    user: str = "65532:65532"


class OciLayout:
    """Images in a folder. One writer at a time: the caller holds a lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def references(self) -> set[str]:
        """The images that are here whole."""
        return {
            entry["annotations"][REFERENCE]
            for entry in self._index()
            if all(self._blob(digest).exists() for digest in self._digests(entry))
        }

    def add(self, image: ScratchImage) -> None:
        """Put an image made of files into the folder."""
        layer = _layer(image.files, image.contents or {})
        config = {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "User": image.user,
                "Entrypoint": list(image.entrypoint),
                "Cmd": list(image.arguments),
            },
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        media_type = f"{MEDIA}.manifest.v1+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self._store(json.dumps(config).encode(), f"{MEDIA}.config.v1+json"),
            "layers": [self._store(layer, f"{MEDIA}.layer.v1.tar")],
        }
        entry = self._store(json.dumps(manifest).encode(), media_type)
        entry["annotations"] = {REFERENCE: image.reference}
        self._replace(entry)

    def add_archive(self, archive: Path, reference: str) -> None:
        """Take one image over from an archive in this same layout, as `docker save` writes it.

        Raises ClusterError when the archive has another form.
        """
        with tarfile.open(archive) as content:
            names = set(content.getnames())
            if "index.json" not in names:
                raise ClusterError(
                    f"the archive of {reference} is not in the OCI layout: docker 25 or newer is "
                    "needed to move its images into the local cluster"
                )
            entries = json.loads(_member(content, "index.json"))["manifests"]
            for name in names:
                if name.startswith("blobs/sha256/") and not (self.folder / name).exists():
                    self._write(self.folder / name, _member(content, name))
        entry = {**entries[0], "annotations": {REFERENCE: reference}}
        self._replace(entry)

    def write_archive(self, references: Iterable[str], target: IO[bytes]) -> None:
        """Stream an archive of these images, for `ctr images import -`."""
        wanted = set(references)
        entries = [entry for entry in self._index() if entry["annotations"][REFERENCE] in wanted]
        with tarfile.open(fileobj=target, mode="w|") as archive:
            _add(archive, "oci-layout", LAYOUT_FILE, 0o644)
            _add(archive, "index.json", _index_content(entries), 0o644)
            for digest in dict.fromkeys(d for entry in entries for d in self._digests(entry)):
                archive.add(self._blob(digest), f"blobs/{digest.replace(':', '/')}")

    def prune(self, keep: int = KEPT_TAGS) -> list[str]:
        """Drop all but the newest tags of each image and the layers only they used; their names."""
        entries = self._index()
        kept: list[JsonObject] = []
        counts: dict[str, int] = {}
        for entry in reversed(entries):
            name = entry["annotations"][REFERENCE].rpartition(":")[0]
            counts[name] = counts.get(name, 0) + 1
            if counts[name] <= keep:
                kept.insert(0, entry)
        dropped = [entry["annotations"][REFERENCE] for entry in entries if entry not in kept]
        if dropped:
            self._write_index(kept)
            used = {digest for entry in kept for digest in self._digests(entry)}
            for blob in (self.folder / "blobs" / "sha256").iterdir():
                if f"sha256:{blob.name}" not in used:
                    blob.unlink()
        return dropped

    def _replace(self, entry: JsonObject) -> None:
        """Enter an image into the index, instead of another of the same name."""
        name = entry["annotations"][REFERENCE]
        others = [other for other in self._index() if other["annotations"][REFERENCE] != name]
        self._write_index([*others, entry])

    def _index(self) -> list[JsonObject]:
        path = self.folder / "index.json"
        if not path.exists():
            return []
        entries: list[JsonObject] = json.loads(path.read_bytes())["manifests"]
        return [entry for entry in entries if REFERENCE in entry.get("annotations", {})]

    def _write_index(self, entries: Sequence[JsonObject]) -> None:
        self._write(self.folder / "oci-layout", LAYOUT_FILE)
        self._write(self.folder / "index.json", _index_content(entries))

    def _digests(self, entry: JsonObject) -> Iterator[str]:
        """All blobs of an image, its manifest first."""
        yield entry["digest"]
        manifest = self._blob(entry["digest"])
        if manifest.exists():
            content = json.loads(manifest.read_bytes())
            yield content["config"]["digest"]
            yield from (layer["digest"] for layer in content["layers"])

    def _blob(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "/")

    def _store(self, content: bytes, media_type: str) -> JsonObject:
        digest = _digest(content)
        self._write(self._blob(digest), content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _write(self, path: Path, content: bytes) -> None:
        """Write in one step: a file is there whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)


def _index_content(entries: Sequence[JsonObject]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _layer(files: Mapping[str, Path], contents: Mapping[str, str]) -> bytes:
    """An uncompressed layer whose bytes depend on the content of the files alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        folders = {str(parent) for name in (*files, *contents) for parent in Path(name).parents}
        for folder in sorted(folders - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            layer.addfile(entry)
        for name, path in sorted(files.items()):
            _add(layer, name, path.read_bytes(), 0o755)
        for name, text in sorted(contents.items()):
            _add(layer, name, text.encode(), 0o644)
    return buffer.getvalue()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    return b"" if file is None else file.read()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
