"""What all tests share: golden files, progress of long steps, and how hypothesis runs."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from e2e import cluster
from e2e.cluster.progress import Progress

# A busy machine is no reason to fail, and a check that others rely on says the same every time.
settings.register_profile(
    "cascade",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("cascade")

Golden = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--refresh-golden",
        action="store_true",
        help="write the golden files anew from what the code produces, instead of comparing",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(path, text)`: the file at `path` holds exactly `text`."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--refresh-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        assert path.exists(), f"{path.name} is missing: run pytest with --refresh-golden"
        assert text == path.read_text(), (
            f"{path.name} differs: a contract changed. If that is meant, run pytest with "
            "--refresh-golden and review the difference"
        )

    return check


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Progress:
    """Prints a line at once, past pytest's capture: for work that takes minutes the first time."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def tell(line: str) -> None:
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            print(line, flush=True)

    return tell


@pytest.fixture(scope="session")
def api_server(say: Progress) -> Iterator[cluster.ApiServer]:
    """A real API server with real controllers and no node, shared by all tests of a run."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(cluster.api_server(say, controllers=True))
        except cluster.ClusterError as error:
            if shutil.which("go") is not None:
                raise
            pytest.skip(f"no API server: {error}")
        yield server
