"""The command `e2e/continuity`: what it prints, writes and returns."""

import json
from pathlib import Path

import pytest

from e2e.continuity_suite.__main__ import main

ONE = "characters: completions .* keep their text"


def test_a_broken_relay_is_told_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "verdicts.json"
    broken = ["--against", "broken", "--fault", "drop"]
    assert main([*broken, "--only", ONE, "--json", str(file)]) == 1
    found = json.loads(file.read_text())
    assert found["totals"] == {"passed": 0, "FAILED": 1, "not supported": 0, "skipped": 0}
    (case,) = found["cases"]
    assert "character" in case["difference"]
    said = capsys.readouterr().out
    assert case["name"] in said
    assert case["difference"][:40] in said


def test_what_does_not_answer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:9"]) == 2
    assert "lists no model" in capsys.readouterr().err


def test_a_pattern_that_fits_no_case_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--against", "broken", "--only", "no such case"]) == 2
    assert "no case matches" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["--url", "a", "--disrupt", "kill-engine"], ["--url", "a", "--only", "("]]
)
def test_options_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
