"""Command lines and configurations, where a mistake shows only on a machine unlike this one."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster import control_plane, kind
from e2e.cluster.binaries import KUBERNETES, PROMETHEUS, cache_key
from e2e.cluster.builders import parse_pip_settings, pip_configuration
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import ClusterError
from e2e.cluster.local import node
from e2e.cluster.local.dns_probe import has_answer, question
from e2e.cluster.local.layout import Layout
from e2e.cluster.local.namespace import PRIVATE_FOLDERS, set_up_script
from e2e.cluster.packages import missing_packages
from e2e.cluster.shell import run

ALONE = ControlPlane(
    folder=Path("/f"),
    programs=Path("/p"),
    address="127.0.0.1",
    port=1,
    etcd_port=2,
    etcd_peer_port=3,
    advertised=None,
    has_controllers=False,
    has_node=False,
)
LAYOUT = Layout(state=Path("/state of mine/cluster"), programs=Path("/p"), cni=Path("/cni"))


def test_a_server_without_controllers_lets_pods_do_without_a_service_account() -> None:
    flag = "--disable-admission-plugins=ServiceAccount"

    assert flag in control_plane.api_server(ALONE)
    assert flag not in control_plane.api_server(replace(ALONE, has_controllers=True))


def test_a_server_without_a_node_names_no_address_of_its_own_in_the_cluster() -> None:
    assert "--endpoint-reconciler-type=none" in control_plane.api_server(ALONE)
    whole = control_plane.api_server(replace(ALONE, advertised="10.0.0.1", has_node=True))
    assert "--endpoint-reconciler-type=none" not in whole
    assert "--advertise-address=10.0.0.1" in whole


def test_components_see_short_paths_whatever_the_user_s_folders_are() -> None:
    configuration = json.dumps(node.files(LAYOUT))

    assert "state of mine" not in configuration
    assert "/run/cascade/" in configuration


def test_a_path_with_a_space_survives_the_shell() -> None:
    assert "mount --bind '/state of mine/cluster' /run/cascade" in set_up_script(LAYOUT)


def test_fixed_folders_of_the_host_are_covered_inside() -> None:
    script = set_up_script(LAYOUT)

    assert all(f" {folder}\n" in script for folder in PRIVATE_FOLDERS)


def test_clusters_of_different_folders_share_no_control_group() -> None:
    assert LAYOUT.cgroup != replace(LAYOUT, state=Path("/other")).cgroup


def test_kind_gets_each_image_once() -> None:
    images = {"operator": "localhost/a:1", "router": "localhost/b:1", "again": "localhost/a:1"}

    assert kind.load_command(Path("kind"), images)[5:] == ["localhost/a:1", "localhost/b:1"]


def test_kind_s_kubeconfig_is_not_the_user_s() -> None:
    command = kind.create_command(Path("kind"), "node:1", Path("/mine"))

    assert command[command.index("--kubeconfig") + 1] == "/mine"
    assert command[command.index("--image") + 1] == "node:1"


def test_the_cache_key_names_version_and_settings() -> None:
    key = cache_key(KUBERNETES, "x86_64")

    assert key.startswith(f"kubernetes-{KUBERNETES.version}-")
    assert key == cache_key(KUBERNETES, "x86_64")
    assert key != cache_key(KUBERNETES, "aarch64")
    assert key != cache_key(replace(KUBERNETES, tags="other"), "x86_64")
    assert key != cache_key(PROMETHEUS, "x86_64")


def test_pip_in_a_build_follows_the_host() -> None:
    listing = "global.index-url='https://mirror.example/simple'\ninstall.no-binary='x'\n"

    configuration = pip_configuration(parse_pip_settings(listing))

    assert "index-url = https://mirror.example/simple\n" in configuration
    assert "no-binary" not in configuration


def test_packages_are_wanted_only_for_missing_programs() -> None:
    programs = {"ctr": "containerd", "containerd": "containerd", "nft": "nftables"}

    installed: dict[str, str] = {}

    assert missing_packages(programs, installed.get) == ["containerd", "nftables"]
    assert missing_packages(programs, str.upper) == []


@pytest.mark.parametrize(
    ("flags", "answers", "wanted"),
    [(0x8180, 1, True), (0x8183, 0, False), (0x8180, 0, False), (0x0100, 1, False)],
    ids=["an address", "no such name", "no record", "a query is no reply"],
)
def test_dns_reply(flags: int, answers: int, wanted: bool) -> None:
    reply = struct.pack(">HHHHHH", 7, flags, 1, answers, 0, 0)

    assert has_answer(reply, 7) is wanted
    assert not has_answer(reply, 8)
    assert not has_answer(reply[:11], 7)


def test_dns_question_spells_the_name() -> None:
    assert question("a.bc", 1)[12:] == b"\x01a\x02bc\x00\x00\x01\x00\x01"


def test_an_error_holds_the_program_s_last_words_and_what_to_do() -> None:
    with pytest.raises(ClusterError, match=r"(?s)testing failed.*no luck.*try again"):
        run(["sh", "-c", "echo no luck >&2; exit 3"], doing="testing", hint="try again")


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ClusterError, match="no-such-program is not installed"):
        run(["no-such-program"], doing="testing")
