"""The folder of images: what goes in comes out, shared layers travel once."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.oci_layout import OciLayout, ScratchImage


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "images")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF")
    return path


def add(layout: OciLayout, reference: str, program: Path, text: str = "") -> None:
    layout.add(ScratchImage(reference, {"bin/it": program}, ["/bin/it"], (), {"etc/it": text}))


def archive_of(layout: OciLayout, *references: str) -> tarfile.TarFile:
    stream = io.BytesIO()
    layout.write_archive(references, stream)
    stream.seek(0)
    return tarfile.open(fileobj=stream)


def member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def blob(archive: tarfile.TarFile, digest: str) -> bytes:
    return member(archive, f"blobs/{digest.replace(':', '/')}")


def test_an_empty_folder_holds_nothing(layout: OciLayout) -> None:
    assert layout.references() == set()


def test_an_image_comes_out_as_it_went_in(layout: OciLayout, program: Path) -> None:
    add(layout, "localhost/it:1", program, "settings")

    with archive_of(layout, "localhost/it:1") as archive:
        (entry,) = json.loads(member(archive, "index.json"))["manifests"]
        manifest = json.loads(blob(archive, entry["digest"]))
        config = json.loads(blob(archive, manifest["config"]["digest"]))
        layer = blob(archive, manifest["layers"][0]["digest"])
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        modes = {file.name: file.mode for file in files}
        program_bytes = member(files, "bin/it")
        settings = member(files, "etc/it")
    assert config["config"] == {"User": "65532:65532", "Entrypoint": ["/bin/it"], "Cmd": []}
    assert modes == {"bin": 0o755, "etc": 0o755, "bin/it": 0o755, "etc/it": 0o644}
    assert (program_bytes, settings) == (program.read_bytes(), b"settings")


def test_equal_files_give_equal_layers_that_travel_once(layout: OciLayout, program: Path) -> None:
    add(layout, "localhost/one:1", program)
    add(layout, "localhost/two:1", program)

    with archive_of(layout, "localhost/one:1", "localhost/two:1") as archive:
        names = archive.getnames()

    assert layout.references() == {"localhost/one:1", "localhost/two:1"}
    assert len(names) == len(set(names))
    assert sum(name.startswith("blobs/") for name in names) == 3  # manifest, config, layer


def test_an_archive_holds_only_what_was_asked_for(layout: OciLayout, program: Path) -> None:
    add(layout, "localhost/one:1", program, "one")
    add(layout, "localhost/two:1", program, "two")

    with archive_of(layout, "localhost/two:1") as archive:
        entries = json.loads(member(archive, "index.json"))["manifests"]

    assert len(entries) == 1


def test_an_image_with_a_lost_layer_is_not_there(layout: OciLayout, program: Path) -> None:
    add(layout, "localhost/it:1", program)
    largest = max((layout.folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)

    largest.unlink()

    assert layout.references() == set()


def test_pruning_keeps_the_newest_tags_and_their_layers(layout: OciLayout, program: Path) -> None:
    for tag in "123":
        add(layout, f"localhost/it:{tag}", program, tag)
    add(layout, "localhost/other:1", program, "1")

    dropped = layout.prune(keep=2)

    assert dropped == ["localhost/it:1"]
    assert layout.references() == {"localhost/it:2", "localhost/it:3", "localhost/other:1"}


def test_an_image_is_taken_over_from_an_archive(
    layout: OciLayout, program: Path, tmp_path: Path
) -> None:
    source = OciLayout(tmp_path / "source")
    add(source, "docker.io/library/it:1", program, "from elsewhere")
    saved = tmp_path / "saved.tar"
    with saved.open("wb") as file:
        source.write_archive(["docker.io/library/it:1"], file)

    layout.add_archive(saved, "localhost/it:1")

    assert layout.references() == {"localhost/it:1"}


def test_an_archive_of_another_form_is_refused(layout: OciLayout, tmp_path: Path) -> None:
    saved = tmp_path / "saved.tar"
    with tarfile.open(saved, "w") as archive:
        archive.addfile(tarfile.TarInfo("manifest.json"))

    with pytest.raises(ClusterError, match="docker 25 or newer"):
        layout.add_archive(saved, "localhost/it:1")
