"""The official OpenAI client understands the engine."""

from openai import AsyncOpenAI

from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import chat_prompt, tokenise
from tests.engine_simulator.conftest import Serve


async def test_the_official_client_reads_a_streamed_chat(serve: Serve) -> None:
    message = {"role": "user", "content": "the river"}
    uncut = expected_output(chat_prompt([message]), 40, ignore_eos=True)
    async with serve() as (http, _):
        client = AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key="none")
        events = await client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "the river"}],
            max_tokens=40,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
        chunks = [chunk async for chunk in events]
        await client.close()
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == uncut.text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 40


async def test_the_official_client_reads_an_unstreamed_completion(serve: Serve) -> None:
    uncut = expected_output(tokenise("the river"), 12, ignore_eos=True)
    async with serve() as (http, _):
        client = AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key="none")
        answer = await client.completions.create(
            model="demo", prompt="the river", max_tokens=12, extra_body={"ignore_eos": True}
        )
        await client.close()
    assert answer.choices[0].text == uncut.text
    assert answer.usage is not None
    assert answer.usage.total_tokens == len(tokenise("the river")) + 12
