"""What vLLM does that a router can fall over, and the case or test that shows that ours does not.

`TRAPS` is the list. Names that begin with `test_` are tests below `tests/router`; the others are
cases of the suite, by the beginning of their name. What concerns the operator, the planner or KV
connectors (which the router does not use, and whose fields it refuses) has no place here.
"""

import re
from pathlib import Path

import pytest

from e2e.continuity_suite.prompts import SimulatorPrompts
from e2e.continuity_suite.suite import cases_for
from tests.router.continuity.service import MAX_LENGTH

TRAPS: dict[str, tuple[str, ...]] = {
    "a leg that begins inside a character gives out the text of its whole prompt": (
        "completions rich in characters of several bytes keep their text",
        "test_a_seam_is_joined_with_the_detokenisers_text",
        "test_losses_at_any_byte_change_nothing",
    ),
    "an uncut stream does so, too, if the client's own prompt ends inside a character": (
        "test_a_prompt_that_ends_inside_a_character_is_answered_as_by_one_engine",
    ),
    "the text of ids that end inside a character comes with a later id, or never": (
        "completions may be cut by max_tokens inside of a character",
        "test_what_an_engine_holds_back_at_a_seam_comes_once",
        "test_what_an_engine_holds_back_at_the_end_never_comes",
    ),
    "a chunk may have ids and no text": (
        "chats rich in characters of several bytes keep their ids",
        "test_empty_deltas_that_exist_for_their_ids_only_are_dropped",
    ),
    "a chunk may have several ids, and then proves nothing about its end": (
        "test_a_clean_point_is_one_id_with_complete_text",
        "test_hand_overs_at_any_clean_point_change_nothing",
    ),
    "text holds characters that Unicode counts as line ends": (
        "a completion keeps its text wherever it is handed over",
        "test_line_ends_of_unicode_end_no_event",
    ),
    "the engine runs on past what was received": ("test_losses_at_any_byte_change_nothing",),
    "prompt ids stand in the first chunk, of a chat at its top level": (
        "a completion keeps its token ids wherever it is handed over",
        "a chat keeps its token ids wherever it is handed over",
    ),
    "ids that were not asked for must not be seen": (
        "a chat keeps its text wherever it is handed over",
        "test_text_passes_unchanged_and_ids_are_kept",
    ),
    "max_tokens 0 is refused, so no leg may be left with nothing to make": (
        "an answer may end at any position around a hand-over",
        "max_tokens 0 is refused",
    ),
    "finish_reason length does not say whose limit it was": (
        "max_tokens is kept to the token",
        "a chat without a limit fills the context and ends by length",
    ),
    "completions without max_tokens, or with null, have 16": (
        "a completion without max_tokens has 16 tokens",
        "a completion with max_tokens null has 16 tokens",
    ),
    "min_tokens above max_tokens is refused, of a leg as well": (
        "min_tokens 50 holds over hand-overs",
        "min_tokens may equal max_tokens",
        "min_tokens above max_tokens is refused",
    ),
    "a seed's random sequence begins again with every leg": ("a completion with a seed",),
    "presence and frequency penalties count the output of a leg alone": (
        "a completion with a presence penalty",
        "a chat with a frequency penalty",
    ),
    "repetition penalty, bias and allowed ids survive": (
        "a completion with a repetition penalty",
        "a completion with a bias",
        "a completion with allowed token ids",
    ),
    "a stop string that spans a seam is missed, and held-back text is lost": (
        "a completion stops at a stop string, wherever it comes",
        "a chat keeps its stop string if asked to",
    ),
    "a stop token id has no state": ("a chat stops at a token id, wherever it comes",),
    "text_offset of log probabilities begins again at 0": ("a completion with log probabilities",),
    "a grammar begins again at a seam: a second object, and no error": (
        "a completion with a regular expression",
        "a chat with response_format json_schema",
    ),
    "tool calls are parsed from the text of one leg": (
        "a chat with a tool that must be called",
        "a chat with a tool that is named",
    ),
    "several answers and an echoed prompt": (
        "a completion with several answers",
        "several prompts with several answers keep their places",
        "a completion with an echoed prompt",
    ),
    "several greedy answers are refused": ("a completion with several greedy answers",),
    "an abort arrives as a finish reason": (
        "test_an_engine_that_gives_up_in_the_stream_counts_as_lost",
    ),
    "errors arrive in the stream": ("test_an_engine_that_gives_up_in_the_stream_counts_as_lost",),
    "an engine may be lost between its last token and its end": (
        "a completion ends well when its engine dies around its last token",
        "test_an_engine_that_dies_between_its_last_token_and_its_end_changes_nothing",
    ),
    "comments keep connections alive": ("test_comments_pass",),
    "usage is of a leg; its total is nobody's but the router's": (
        "a completion reports its usage once, over all instances, if asked to",
        "a chat that did not ask gets no usage",
    ),
    "the fingerprint stands on the last event alone, on the usage if there is one": (
        "test_the_last_event_names_the_engine_after_a_hand_over_as_well",
        "test_the_usage_names_the_engine_after_a_hand_over_as_well",
    ),
    "closing the connection is how to stop an engine": (
        "engines stop when the client of a chat leaves around a hand-over",
        "engines stop when the client of an unstreamed answer leaves",
    ),
    "idle connections are closed after five seconds without a word": (
        "test_a_kept_connection_that_the_engine_closed_is_replaced",
    ),
    "the source may end by itself while its target is warmed": (
        "test_a_stream_that_ends_before_its_target_is_warm_stays_where_it_is",
    ),
    "a target may die while it is warmed": (
        "test_a_target_that_is_lost_during_its_warm_up_costs_the_client_nothing",
    ),
    "an engine may hang with its server still answering": ("test_a_silent_engine_counts_as_lost",),
    "transfer parameters of clients reach any host": (
        "test_what_steers_an_engine_is_refused_on_every_path",
    ),
}

CASES = [case.name for case in cases_for(SimulatorPrompts(), MAX_LENGTH)]
TESTS = {
    name
    for path in Path(__file__).parents[1].rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_has_a_case_or_a_test(trap: str) -> None:
    for name in TRAPS[trap]:
        known = name in TESTS or any(case.startswith(name) for case in CASES)
        assert known, f"nothing is called {name!r}"
