"""An image's tag changes with its inputs, and with nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.folders import REPOSITORY
from e2e.cluster.image_inputs import PROJECT_IMAGES, ProjectImage, copied_sources, tag_of

IMAGE = ProjectImage("thing", "thing/Dockerfile")
DOCKERFILE = """\
ARG BASE_IMAGE=python
FROM ${BASE_IMAGE} AS build
COPY thing/requirements.txt /opt/
# COPY commented/out /opt/
COPY --chown=1:1 thing/source \\
     /opt/source
FROM ${BASE_IMAGE}
COPY --from=build /opt /opt
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "thing" / "source").mkdir(parents=True)
    (tmp_path / "thing" / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "thing" / "requirements.txt").write_text("a==1\n")
    (tmp_path / "thing" / "source" / "main.py").write_text("print()\n")
    (tmp_path / "thing" / "README.md").write_text("not in the image\n")
    return tmp_path


def test_sources_are_what_the_build_context_gives() -> None:
    assert copied_sources(DOCKERFILE) == ["thing/requirements.txt", "thing/source"]


@pytest.mark.parametrize("line", ["COPY thing/* /opt/", 'COPY ["a b", "/opt/"]'])
def test_a_line_that_hides_its_sources_is_refused(line: str) -> None:
    with pytest.raises(ClusterError, match="cannot tell"):
        copied_sources(line)


def _edit(tree: Path) -> None:
    (tree / "thing/source/main.py").write_text("print(1)\n")


def _rename(tree: Path) -> None:
    (tree / "thing/source/main.py").rename(tree / "thing/source/other.py")


def _add(tree: Path) -> None:
    (tree / "thing/source/more.py").write_text("")


def _require(tree: Path) -> None:
    (tree / "thing/requirements.txt").write_text("a==2\n")


def _build_otherwise(tree: Path) -> None:
    (tree / "thing/Dockerfile").write_text(DOCKERFILE + "USER 1\n")


def _make_executable(tree: Path) -> None:
    (tree / "thing/source/main.py").chmod(0o755)


@pytest.mark.parametrize(
    "change", [_edit, _rename, _add, _require, _build_otherwise, _make_executable]
)
def test_the_tag_changes_with_an_input(tree: Path, change: Callable[[Path], None]) -> None:
    before = tag_of(IMAGE, tree, "base")

    change(tree)

    assert tag_of(IMAGE, tree, "base") != before


def _edit_readme(tree: Path) -> None:
    (tree / "thing/README.md").write_text("other\n")


def _compile(tree: Path) -> None:
    (tree / "thing/source/__pycache__").mkdir()
    (tree / "thing/source/__pycache__/main.cpython-311.pyc").write_text("")


@pytest.mark.parametrize("change", [_edit_readme, _compile])
def test_the_tag_stays_when_no_input_changes(tree: Path, change: Callable[[Path], None]) -> None:
    before = tag_of(IMAGE, tree, "base")

    change(tree)

    assert tag_of(IMAGE, tree, "base") == before


def test_the_tag_changes_with_the_base(tree: Path) -> None:
    assert tag_of(IMAGE, tree, "one") != tag_of(IMAGE, tree, "other")


def test_a_missing_input_is_named(tree: Path) -> None:
    (tree / "thing/requirements.txt").unlink()

    with pytest.raises(ClusterError, match=r"copies thing/requirements\.txt"):
        tag_of(IMAGE, tree, "base")


@pytest.mark.parametrize("image", PROJECT_IMAGES, ids=lambda image: image.role)
def test_the_project_s_dockerfiles_can_be_named(image: ProjectImage) -> None:
    assert len(tag_of(image, REPOSITORY, "base")) == 12
