"""The names that programs, charts, dashboards and users depend on: changing one is a decision."""

from pathlib import Path

from cascade_policy import names
from tests.conftest import Golden

GOLDEN = Path(__file__).parent / "golden"


def test_the_names_are_what_the_golden_file_holds(golden: Golden) -> None:
    constants = {key: value for key, value in vars(names).items() if key.isupper()}
    examples = {
        "stage_name(llama, 2)": names.stage_name("llama", 2),
        "stage_map_name(llama)": names.stage_map_name("llama"),
        "hop_secret_name(llama)": names.hop_secret_name("llama"),
        "sidecar_account_name(llama)": names.sidecar_account_name("llama"),
    }
    lines = [f"{key} = {value}" for key, value in sorted(constants.items())]
    lines += [f"{key} = {value}" for key, value in examples.items()]
    golden(GOLDEN / "names.txt", "\n".join(lines) + "\n")


def test_metric_names_carry_the_prefix_and_their_unit() -> None:
    metrics = {key: value for key, value in vars(names).items() if key.startswith("METRIC_")}
    assert len(metrics) == len(set(metrics.values()))
    for value in metrics.values():
        assert value.startswith("cascade_")
        assert value.endswith(("_total", "_seconds", "_tokens", "_in_flight", "_waiting", "_ratio"))


def test_labels_and_annotations_are_under_the_domain_or_a_known_one() -> None:
    known = (names.DOMAIN, "llm-d.ai/", "app.kubernetes.io/", "pod-template-hash")
    for key, value in vars(names).items():
        if key.startswith(("LABEL_", "ANNOTATION_")):
            assert value.startswith(known)
