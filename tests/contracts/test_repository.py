"""Rules about the repository itself that no other tool checks."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]

# Folders that are put on the import path, or whose name is one of the standard library's: as a
# package, `operator` would take the place of the standard library's and break the interpreter.
NEVER_PACKAGES = ["operator", "router", "tests", "tests/operator", "tests/router"]

LOCKED = {
    "operator/requirements.txt": "operator",
    "router/requirements.txt": "tracing",
    "e2e/engine_simulator/requirements.txt": "engine-simulator",
    "e2e/requirements.txt": "demo",
    "e2e/bench/requirements.txt": "cli",
    "e2e/profiles/requirements.txt": "profiles",
    "tests/requirements.txt": "dev",
    "tests/fuzz/requirements.txt": "fuzz",
}

LOCKED_LISTS = ["e2e/bench/rivals", "e2e/vllm_engine"]
"""Folders with packages that run beside the project: a list, and what it is locked to."""

DOCKERFILES = ["operator/Dockerfile", "router/Dockerfile", "e2e/engine_simulator/Dockerfile"]

# Written in pieces, so that this file does not find itself.
OF_ONE_MACHINE = {
    "a path of somebody's home folder": r"/" + r"(home|Users)/[a-z]",
    "a path of the superuser's home folder": r"(^|[^a-z.$}])/" + r"root/",
    "a path of a work folder": r"(^|[\s\"'=(])/" + r"work/",
    "a lock file with download addresses": r"files\.pythonhosted" + r"\.org",
    "an index address in a requirements file": r"^--(extra-)?index" + r"-url|^--find" + r"-links",
}


def tracked_files() -> Iterator[Path]:
    """Files that git has or would take: new ones are looked at before they are committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    yield from (ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file())


def pinned(path: str) -> dict[str, Version]:
    """Package names, normalised, and the versions that a requirements file fixes."""
    lines = (ROOT / path).read_text().splitlines()
    found = [re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line) for line in lines]
    return {normalised(m[1]): Version(m[2]) for m in found if m}


def every_entry_has_hashes(path: str) -> bool:
    entries = re.split(r"\n(?=\S)", (ROOT / path).read_text())
    return all("--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def direct_requirements(extra: str) -> Iterator[Requirement]:
    """What an extra asks for, with the extras of this project that it includes."""
    for requirement in map(Requirement, EXTRAS[extra]):
        if requirement.name == PROJECT["project"]["name"]:
            for included in requirement.extras:
                yield from direct_requirements(included)
        else:
            yield requirement


@pytest.mark.parametrize("folder", NEVER_PACKAGES)
def test_a_source_root_is_never_a_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("what", OF_ONE_MACHINE)
def test_no_file_speaks_of_one_machine(what: str) -> None:
    pattern = re.compile(OF_ONE_MACHINE[what], re.MULTILINE)
    guilty = []
    for path in tracked_files():
        match = pattern.search(path.read_text(encoding="utf-8", errors="replace"))
        if match:
            guilty.append(f"{path.relative_to(ROOT)}: {match[0].strip()}")
    assert not guilty


def test_no_lock_file_with_download_addresses_is_kept() -> None:
    assert "uv.lock" not in {path.name for path in tracked_files()}


@pytest.mark.parametrize("path", LOCKED)
def test_every_locked_requirement_has_hashes_and_fits_the_project(path: str) -> None:
    locked = pinned(path)
    for requirement in direct_requirements(LOCKED[path]):
        version = locked.get(normalised(requirement.name))
        assert version is not None, f"{requirement} is not in {path}: run tests/lock"
        assert version in requirement.specifier, f"{path} has {version}: run tests/lock"
    assert PROJECT["project"]["name"] not in locked
    assert every_entry_has_hashes(path)


@pytest.mark.parametrize("folder", LOCKED_LISTS)
def test_a_list_of_packages_is_locked_with_hashes(folder: str) -> None:
    listed, path = pinned(f"{folder}/requirements.in"), f"{folder}/requirements.txt"
    assert listed
    assert listed.items() <= pinned(path).items(), "run tests/lock"
    assert every_entry_has_hashes(path)


def test_every_extra_is_locked_by_itself_or_with_another() -> None:
    included = {
        extra
        for locked in LOCKED.values()
        for requirement in map(Requirement, EXTRAS[locked])
        if requirement.name == PROJECT["project"]["name"]
        for extra in requirement.extras
    }
    assert set(LOCKED.values()) | included == set(EXTRAS)


def test_the_build_backend_is_locked_with_the_tests_at_the_version_that_builds_the_package() -> (
    None
):
    (backend,) = map(Requirement, PROJECT["build-system"]["requires"])
    assert pinned("tests/requirements.txt")[backend.name] in backend.specifier


@pytest.mark.parametrize("path", DOCKERFILES)
def test_every_image_has_a_dockerfile_that_users_can_build(path: str) -> None:
    text = (ROOT / path).read_text()
    assert re.search(r"^FROM ", text, re.MULTILINE)
    assert re.search(r"^USER \d+", text, re.MULTILINE), "the image must not run as root by default"


@pytest.mark.parametrize("command", ["e2e/demo", "e2e/vllm", "tests/run", ".ci/run"])
def test_every_command_is_executable(command: str) -> None:
    assert (ROOT / command).stat().st_mode & 0o111


@pytest.mark.parametrize("command", ["e2e/demo", "tests/run"])
def test_the_readme_names_both_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text()
