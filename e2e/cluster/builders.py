"""The two programs that can build an image from a Dockerfile: docker, and buildah without one.

buildah works as root without a daemon and without a registry: the base image is then made here
from Debian packages, and stands in for the Dockerfiles' FROM by their build argument BASE_IMAGE.
"""

import hashlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from e2e.cluster.folders import REPOSITORY, cache_folder
from e2e.cluster.image_inputs import ProjectImage
from e2e.cluster.oci_layout import OciLayout
from e2e.cluster.packages import IMAGE_PROGRAMS, install, missing_packages
from e2e.cluster.progress import Progress
from e2e.cluster.shell import run, succeeds

BASE_VARIABLE = "CASCADE_BASE_IMAGE"
MIRROR_VARIABLE = "CASCADE_DEBIAN_MIRROR"
BUILD_SECONDS = 900.0
DEBIAN_SUITE = "bookworm"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
BASE_EXCLUDES = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
BASE_DOCKERFILE = 'FROM scratch\nADD base.tar /\nCMD ["python3"]\n'
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


class Builder(Protocol):
    """Builds images and keeps them."""

    name: str

    def base_key(self) -> str:
        """Names the base that images are built on; part of their tags."""
        ...

    def has(self, reference: str) -> bool:
        """Whether an image is there already."""
        ...

    def build(self, image: ProjectImage, reference: str) -> None:
        """Build an image under this reference. Raises ClusterError."""
        ...

    def push(self, reference: str) -> None:
        """Push an image to the registry in its reference. Raises ClusterError."""
        ...

    def export(self, reference: str, layout: OciLayout) -> None:
        """Copy an image into a folder of images. Raises ClusterError."""
        ...


def docker_runs() -> bool:
    """Whether a docker engine answers."""
    return succeeds(["docker", "info"])


def choose_builder(progress: Progress, *, has_docker: bool) -> Builder:
    """docker where its engine runs, else buildah."""
    return DockerBuilder() if has_docker else BuildahBuilder(progress)


class DockerBuilder:
    """Plain `docker build`, as the Dockerfiles' users do it."""

    name = "docker"

    def base_key(self) -> str:
        """The Dockerfiles' own base, unless the user names another."""
        return os.environ.get(BASE_VARIABLE, "default")

    def has(self, reference: str) -> bool:
        """Whether the engine holds the image."""
        return succeeds(["docker", "image", "inspect", reference])

    def build(self, image: ProjectImage, reference: str) -> None:
        """`docker build` in the repository's root."""
        base = os.environ.get(BASE_VARIABLE)
        run(
            [
                "docker", "build", "-f", image.dockerfile, "-t", reference,
                *(["--build-arg", f"BASE_IMAGE={base}"] if base else []), ".",
            ],
            doing=f"building the image {image.name}",
            hint=f"If the base image cannot be pulled, name one you have in {BASE_VARIABLE}.",
            folder=REPOSITORY,
            timeout=BUILD_SECONDS,
        )  # fmt: skip

    def push(self, reference: str) -> None:
        """`docker push`."""
        hint = "Log in with `docker login`, or correct CASCADE_IMAGE_REPOSITORY."
        run(
            ["docker", "push", reference],
            doing=f"pushing {reference}",
            hint=hint,
            timeout=BUILD_SECONDS,
        )

    def export(self, reference: str, layout: OciLayout) -> None:
        """`docker save`, unpacked into the folder; needs an engine that saves OCI (25 or newer)."""
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            run(["docker", "save", "-o", archive, reference], doing=f"saving {reference}")
            layout.add_archive(archive, reference)


class BuildahBuilder:
    """buildah with a storage folder of its own, in a mount namespace of its own.

    The mount namespace takes the mounts of a killed build away with it.
    """

    name = "buildah"

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._storage = cache_folder() / "buildah"
        install(missing_packages(IMAGE_PROGRAMS), progress)

    def base_key(self) -> str:
        """Changes with everything that goes into the base image."""
        named = os.environ.get(BASE_VARIABLE)
        if named:
            return named
        recipe = json.dumps([DEBIAN_SUITE, BASE_PACKAGES, BASE_EXCLUDES, BASE_DOCKERFILE])
        return hashlib.sha256(recipe.encode()).hexdigest()[:12]

    def has(self, reference: str) -> bool:
        """Whether the storage folder holds the image."""
        return succeeds(self._buildah("inspect", "--type", "image", reference), timeout=60)

    def build(self, image: ProjectImage, reference: str) -> None:
        """Build on the base image, with the host's package index and certificates for pip."""
        with tempfile.TemporaryDirectory() as folder:
            pip = Path(folder) / "pip.conf"
            pip.write_text(pip_configuration(host_pip_settings()))
            volumes = [f"{pip}:/etc/pip.conf:ro"]
            if bundle := _certificates():
                volumes.append(f"{bundle}:{CA_BUNDLE}:ro")
            self._run(
                f"building the image {image.name}",
                "bud", "--layers", "--quiet", "-f", image.dockerfile, "-t", reference,
                "--build-arg", f"BASE_IMAGE={self._base()}",
                *(word for volume in volumes for word in ("--volume", volume)), ".",
                hint="If packages cannot be fetched, see that pip can on the host.",
            )  # fmt: skip

    def push(self, reference: str) -> None:
        """`buildah push`."""
        hint = "Log in with `buildah login`, or correct CASCADE_IMAGE_REPOSITORY."
        self._run(f"pushing {reference}", "push", reference, f"docker://{reference}", hint=hint)

    def export(self, reference: str, layout: OciLayout) -> None:
        """`buildah push` into the folder."""
        target = f"oci:{layout.folder}:{reference}"
        self._run(
            f"exporting {reference}", "push", "--compression-format", "zstd", reference, target
        )

    def forget(self, reference: str) -> None:
        """Remove an image that nobody will ask for again."""
        succeeds(self._buildah("rmi", reference), timeout=60)

    def _base(self) -> str:
        """The base image's reference; made the first time."""
        named = os.environ.get(BASE_VARIABLE)
        if named:
            return named
        reference = f"localhost/cascade-base:{self.base_key()}"
        if not self.has(reference):
            self._make_base(reference)
        return reference

    def _make_base(self, reference: str) -> None:
        """Debian with Python, from packages, into the storage folder."""
        self._progress(f"making the base image: Debian {DEBIAN_SUITE} with Python, by mmdebstrap")
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            run(
                [
                    "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet",
                    f"--include={','.join(BASE_PACKAGES)}",
                    *(f"--dpkgopt=path-exclude={pattern}" for pattern in BASE_EXCLUDES),
                    DEBIAN_SUITE, f"{folder}/base.tar",
                    *filter(None, [os.environ.get(MIRROR_VARIABLE)]),
                ],
                doing="making the base image",
                hint=f"If Debian's mirror cannot be reached, name one in {MIRROR_VARIABLE}.",
                timeout=BUILD_SECONDS,
            )  # fmt: skip
            Path(folder, "Dockerfile").write_text(BASE_DOCKERFILE)
            self._run("storing the base image", "bud", "--quiet", "-t", reference, folder)

    def _run(self, doing: str, *arguments: str, hint: str = "") -> str:
        return run(
            self._buildah(*arguments),
            doing=doing,
            hint=hint,
            environment={"BUILDAH_ISOLATION": "chroot"},
            folder=REPOSITORY,
            timeout=BUILD_SECONDS,
        )

    def _buildah(self, *arguments: str) -> list[str]:
        storage = self._storage
        return [
            "unshare", "--mount", "--propagation", "private",
            "buildah", "--root", f"{storage}/root", "--runroot", f"{storage}/run",
            "--storage-driver", storage_driver(storage), *arguments,
        ]  # fmt: skip


def storage_driver(storage: Path) -> str:
    """`overlay` where the storage folder can take overlay mounts, else `vfs`, which copies.

    Decided once for a storage folder and remembered there.
    """
    storage.mkdir(parents=True, exist_ok=True)
    chosen = storage / "driver"
    if not chosen.exists():
        chosen.write_text("overlay" if _can_overlay(storage) else "vfs")
    return chosen.read_text()


def _can_overlay(folder: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=folder) as test:
        for name in ("lower", "upper", "work", "merged"):
            Path(test, name).mkdir()
        options = f"lowerdir={test}/lower,upperdir={test}/upper,workdir={test}/work"
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, f"{test}/merged"]
        return succeeds(["unshare", "--mount", "--propagation", "private", *mount])


def _certificates() -> str | None:
    """The certificates that the host trusts for pip."""
    for path in (
        os.environ.get("PIP_CERT"),
        os.environ.get("SSL_CERT_FILE"),
        CA_BUNDLE,
        ssl.get_default_verify_paths().cafile,
    ):
        if path and Path(path).exists():
            return path
    return None


PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")


def pip_configuration(settings: dict[str, str]) -> str:
    """A pip.conf with the host's package index, for the time of a build."""
    lines = [f"{name} = {settings[name]}" for name in PIP_SETTINGS if name in settings]
    return "\n".join(["[global]", f"cert = {CA_BUNDLE}", *lines, ""])


def host_pip_settings(
    environment: Callable[[str], str | None] = os.environ.get,
) -> dict[str, str]:
    """pip's settings on the host, from its configuration files and from the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings = parse_pip_settings(done.stdout if done.returncode == 0 else "")
    for name in PIP_SETTINGS:
        value = environment(f"PIP_{name.upper().replace('-', '_')}")
        if value:
            settings[name] = value
    return settings


def parse_pip_settings(listing: str) -> dict[str, str]:
    """The output of `pip config list`: lines such as `global.index-url='https://...'`."""
    settings = {}
    for line in listing.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            settings[key.rpartition(".")[2]] = value.strip("'\"").replace("\\n", " ")
    return settings
