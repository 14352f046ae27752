"""The project's images for a cluster: built once for each state of their sources."""

import os
from collections.abc import Iterable
from pathlib import Path

from e2e.cluster.binaries import PROMETHEUS, cache_key, programs_folder
from e2e.cluster.builders import BuildahBuilder, Builder, choose_builder, docker_runs
from e2e.cluster.choice import IMAGE_REPOSITORY_VARIABLE
from e2e.cluster.errors import ClusterError
from e2e.cluster.folders import REPOSITORY, cache_folder, locked
from e2e.cluster.image_inputs import PROJECT_IMAGES, tag_of
from e2e.cluster.oci_layout import OciLayout, ScratchImage
from e2e.cluster.progress import Progress

LOCAL_REPOSITORY = "localhost"
PROMETHEUS_CONFIG = "etc/prometheus/prometheus.yml"


def image_layout() -> OciLayout:
    """The folder of images for the local cluster."""
    return OciLayout(cache_folder() / "images")


def build_for(provider: str, progress: Progress) -> dict[str, str]:
    """Build what is not built yet; role to reference, as the cluster's nodes will know them.

    For `local` the images go into image_layout(), with a Prometheus that cannot be pulled there;
    for `kind` they stay with docker; for `current` they are pushed where the user said.
    Raises ClusterError.
    """
    with locked("images", progress):
        builder = choose_builder(progress, has_docker=docker_runs())
        if provider == "kind" and builder.name != "docker":
            raise ClusterError("kind's images come from docker, whose engine does not answer")
        repository = os.environ.get(IMAGE_REPOSITORY_VARIABLE) if provider == "current" else None
        images = references(builder.base_key(), repository or LOCAL_REPOSITORY)
        if provider == "local":
            _into_layout(builder, images, progress)
            images["prometheus"] = _prometheus(progress)
        else:
            _build_missing(builder, images, images.values(), progress)
            if repository:
                for reference in images.values():
                    progress(f"pushing {reference}")
                    builder.push(reference)
    return images


def references(base_key: str, repository: str, root: Path = REPOSITORY) -> dict[str, str]:
    """Role to reference, for the sources as they are."""
    return {
        image.role: f"{repository}/{image.name}:{tag_of(image, root, base_key)}"
        for image in PROJECT_IMAGES
    }


def _into_layout(builder: Builder, images: dict[str, str], progress: Progress) -> None:
    """Have the images in the layout."""
    layout = image_layout()
    missing = [ref for ref in images.values() if ref not in layout.references()]
    _build_missing(builder, images, missing, progress)
    for reference in missing:
        builder.export(reference, layout)
    if missing:
        for reference in layout.prune():
            if isinstance(builder, BuildahBuilder):
                builder.forget(reference)


def _build_missing(
    builder: Builder, images: dict[str, str], wanted: Iterable[str], progress: Progress
) -> None:
    """Have the wanted images in the builder's storage."""
    for image in PROJECT_IMAGES:
        reference = images[image.role]
        if reference in wanted and not builder.has(reference):
            progress(f"building {reference} with {builder.name}")
            builder.build(image, reference)


def _prometheus(progress: Progress) -> str:
    """The reference of a Prometheus image made from its Go module, in the layout.

    It takes the same arguments as the official image, and its program lies at the same path.
    """
    tag = cache_key(PROMETHEUS, "").removeprefix("prometheus-")
    reference = f"{LOCAL_REPOSITORY}/cascade-prometheus:{tag}"
    layout = image_layout()
    if reference not in layout.references():
        program = programs_folder(PROMETHEUS, progress) / "prometheus"
        layout.add(
            ScratchImage(
                reference,
                files={"bin/prometheus": program},
                entrypoint=["/bin/prometheus"],
                arguments=[
                    f"--config.file=/{PROMETHEUS_CONFIG}",
                    "--storage.tsdb.path=/prometheus",
                ],
                contents={PROMETHEUS_CONFIG: "global: {scrape_interval: 15s}\n"},
            )
        )
    return reference
