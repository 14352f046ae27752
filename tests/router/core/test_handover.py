"""Streams that change instances on the way: the client must not be able to tell."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cascade_policy.stage_map import Boundaries
from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import WORD_IDS, chat_prompt, detokenise, ends_inside_character
from tests.router.core.cluster import FAST, MAX_LENGTH, cluster, stage_map, stream, until
from tests.router.core.loop import on_uvloop

PROMPT = [300, 301, 302, 303]
OUTPUT = 90
LAST_POSITION = 45
"""Where less than 16 tokens are left, no move pays; the rest is for a machine that lags."""


def multibyte_prompts(count: int) -> list[list[int]]:
    """Prompts whose output is rich in characters of several bytes."""
    prompts = [[270 + number, 301, 302] for number in range(400)]

    def richness(prompt: list[int]) -> int:
        ids = expected_output(prompt, OUTPUT, ignore_eos=True).ids
        return sum(ends_inside_character(ids[:end]) for end in range(1, OUTPUT))

    return sorted(prompts, key=richness, reverse=True)[:count]


def prompt_of_length(length: int, seed: int, chat: bool) -> tuple[list[int], dict[str, Any]]:
    """A prompt of exactly `length` tokens, and the fields of a request that asks it."""
    if not chat:
        prompt = [270 + seed] * length
        return prompt, {"prompt": prompt}
    template = len(chat_prompt([{"role": "user", "content": ""}]))
    content = detokenise([WORD_IDS[seed]] * (length - template))
    messages = [{"role": "user", "content": content}]
    return chat_prompt(messages), {"messages": messages}


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("wants_ids", [False, True], ids=["text only", "with ids"])
@on_uvloop
async def test_a_hand_over_at_every_position_leaves_ids_and_text_whole(
    tmp_path: Path, path: str, wants_ids: bool
) -> None:
    chat = path.endswith("chat/completions")
    boundary = 100
    options = {
        "max_tokens": OUTPUT,
        "ignore_eos": True,
        "return_token_ids": wants_ids,
        "stream_options": {"include_usage": True},
    }
    async with cluster(tmp_path, [0, 1], stage_map(boundary)) as service:

        async def check(seed: int, position: int) -> int:
            """One request that outgrows its stage after `position` tokens."""
            length = boundary + 1 - position
            prompt, fields = prompt_of_length(length, seed, chat)
            assert len(prompt) == length
            want = expected_output(prompt, OUTPUT, ignore_eos=True)
            got = await stream(service[position % 2].url, path, {**fields, **options})
            assert (position, got.text) == (position, want.text)
            assert got.ids == (want.ids if wants_ids else ())
            assert (got.finish, got.done, got.errors) == (["length"], True, [])
            assert [usage["total_tokens"] for usage in got.usage] == [length + OUTPUT]
            assert len({event["id"] for event in got.events}) == 1
            assert len({event["object"] for event in got.events}) == 1
            if chat:
                assert [c["delta"].get("role") for c in got.choices].count("assistant") == 1
            return ends_inside_character(want.ids[:position])

        checks = [check(seed, end) for seed in range(3) for end in range(1, LAST_POSITION)]
        inside = await asyncio.gather(*checks)
        assert sum(inside) >= 3, "some crossings lie inside a character"
        await service.settle()
        completed = service.metric("cascade_handovers_total", outcome="completed")
        # A lagging machine may estimate a prompt, and place it in the next stage at once.
        assert 0.8 * len(checks) <= completed <= len(checks)
        assert service.metric("cascade_handover_gap_seconds_count") == completed


@pytest.mark.parametrize("percent", [0, 30, 80], ids=lambda percent: f"{percent} % multi-id")
@on_uvloop
async def test_engines_that_send_several_ids_at_once_are_handed_over_as_well(
    tmp_path: Path, percent: int
) -> None:
    plan = stage_map(20, 40)
    arguments = ("--coalesce-percent", str(percent))
    async with cluster(tmp_path, [0, 1, 2], plan, *arguments) as service:

        async def check(prompt: list[int], wants_ids: bool) -> None:
            want = expected_output(prompt, 100, ignore_eos=True)
            body = {"prompt": prompt, "max_tokens": 100, "ignore_eos": True}
            asked = {**body, "return_token_ids": wants_ids}
            got = await stream(service[1].url, "/v1/completions", asked)
            assert (got.text, got.errors) == (want.text, [])
            assert got.ids == (want.ids if wants_ids else ())

        prompts = multibyte_prompts(30)
        await asyncio.gather(*(check(p, ids) for p in prompts for ids in (True, False)))
        await service.settle()
        assert service.metric("cascade_handovers_total", outcome="completed") > 60


@on_uvloop
async def test_a_sequence_climbs_through_all_stages(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1, 2, 3], stage_map(30, 60, 120)) as service:
        want = expected_output(PROMPT, 300, ignore_eos=True)
        body = {"prompt": PROMPT, "max_tokens": 300, "ignore_eos": True}
        got = await stream(
            service[2].url, "/v1/completions", body, headers={"x-cascade-trace": "1"}
        )
        assert got.text == want.text
        for number, stages in ((1, "0->1"), (2, "1->2"), (3, "2->3")):
            assert f": cascade handover {number} stage {stages}\n\n".encode() in got.raw
        await service.settle()
        assert service.metric("cascade_handovers_total", outcome="completed") == 3


@on_uvloop
async def test_natural_ends_and_minimum_lengths_survive(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(20)) as service:
        for number in range(40):
            prompt = [280 + number, 9]
            want = expected_output(prompt, 400)
            got = await stream(
                service[0].url, "/v1/completions", {"prompt": prompt, "max_tokens": 400}
            )
            assert (got.text, got.finish) == (want.text, [want.finish_reason])
        await service.settle()


@on_uvloop
async def test_soft_boundaries_leave_a_sequence_where_moving_does_not_pay(tmp_path: Path) -> None:
    plan = stage_map(20, boundaries=Boundaries.SOFT)
    async with cluster(tmp_path, [0, 1], plan) as service:
        want = expected_output(PROMPT, 60, ignore_eos=True)
        body = {"prompt": PROMPT, "max_tokens": 60, "ignore_eos": True}
        got = await stream(service[0].url, "/v1/completions", body)
        assert got.text == want.text
        await service.settle()


@on_uvloop
async def test_a_target_that_refuses_is_replaced_by_another(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1, 1], stage_map(30)) as service:
        service[1].engine.faults.status = 503
        want = expected_output(PROMPT, 80, ignore_eos=True)
        body = {"prompt": PROMPT, "max_tokens": 80, "ignore_eos": True}
        for _ in range(6):
            got = await stream(service[0].url, "/v1/completions", body)
            assert (got.text, got.errors) == (want.text, [])
        await service.settle()
        assert service.metric("cascade_handovers_total", outcome="refused") > 0
        assert service.metric("cascade_handovers_total", outcome="completed") > 0


@on_uvloop
async def test_a_dead_target_sends_the_sequence_back_to_its_source(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(30)) as service:
        service[1].engine.faults.reset_after_tokens = 1
        want = expected_output(PROMPT, 80, ignore_eos=True)
        body = {"prompt": PROMPT, "max_tokens": 80, "ignore_eos": True}
        got = await stream(service[0].url, "/v1/completions", body)
        assert (got.text, got.errors) == (want.text, [])
        await service.settle()


@on_uvloop
async def test_a_client_that_leaves_during_a_hand_over_stops_every_engine(tmp_path: Path) -> None:
    async with cluster(
        tmp_path, [0, 1], stage_map(30), coefficients={**FAST, "prefillMsPerToken": 5.0}
    ) as service:
        body = {"prompt": PROMPT, "max_tokens": 3000, "ignore_eos": True}
        for _ in range(4):
            task = asyncio.create_task(stream(service[0].url, "/v1/completions", body))
            await until(
                lambda: bool(service[1].engine.batch.running or service[1].engine.batch.waiting),
                "the sequence arrives at its target",
            )
            task.cancel()
            await asyncio.wait([task])
            await service.settle()
        assert service.metric("cascade_requests_total", outcome="cancelled") == 4
        assert service.metric("cascade_handovers_total", outcome="cancelled") == 4
        assert service.metric("cascade_requests_in_flight") == 0


@on_uvloop
async def test_hand_over_switched_off_pins_everything(tmp_path: Path) -> None:
    from cascade_policy.stage_map import Handoff

    plan = stage_map(20, handoff=Handoff(enabled=False))
    async with cluster(tmp_path, [0, 1], plan) as service:
        want = expected_output(PROMPT, 60, ignore_eos=True)
        body = {"prompt": PROMPT, "max_tokens": 60, "ignore_eos": True}
        got = await stream(service[0].url, "/v1/completions", body)
        assert (got.text, got.headers["x-cascade-pinned"]) == (want.text, "disabled")
        assert service.metric("cascade_handovers_total") == 0


@on_uvloop
async def test_a_sequence_at_the_models_limit_ends_by_length(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(MAX_LENGTH - 20)) as service:
        prompt = [7] * (MAX_LENGTH - 40)
        want = expected_output(prompt, 40, ignore_eos=True)
        messages = {"prompt": prompt, "ignore_eos": True, "max_tokens": 40}
        got = await stream(service[0].url, "/v1/completions", messages)
        assert (got.text, got.finish) == (want.text, ["length"])
        await service.settle()
