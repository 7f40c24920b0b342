"""The official SDKs can parse the stand-in provider's responses, and read the token counts it generated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from anthropic import Anthropic, AsyncAnthropic
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types
from openai import AsyncOpenAI, OpenAI

from demo.completions import MIN_CACHED_TOKENS, Completion
from demo.provider import Provider

LONG = "All of our code is typed, tested and reviewed. " * 200
QUESTION = "What is left to do?"
CHAT: Any = {
    "model": "gpt-4o",
    "messages": [{"role": "system", "content": LONG}, {"role": "user", "content": QUESTION}],
}
RESPONSES: Any = {"model": "o4-mini", "instructions": LONG, "input": QUESTION}
MESSAGES: Any = {
    "model": "claude-sonnet-5",
    "max_tokens": 8_000,
    "thinking": {"type": "adaptive"},
    "system": [
        {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "The project is new.", "cache_control": {"type": "ephemeral"}},
    ],
    "messages": [{"role": "user", "content": QUESTION}],
}
GENERATE: Any = {
    "model": "gemini-2.5-pro",
    "contents": QUESTION,
    "config": genai_types.GenerateContentConfig(system_instruction=LONG),
}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(speed=1000) as provider:
        yield provider


def openai_options(provider: Provider) -> dict[str, Any]:
    return {"base_url": f"{provider.url}/v1", "api_key": "any"}


def anthropic_options(provider: Provider) -> dict[str, Any]:
    return {"base_url": provider.url, "api_key": "any"}


def genai_client(provider: Provider, retries: int = 0) -> genai.Client:
    retry = genai_types.HttpRetryOptions(attempts=retries + 1, initial_delay=0.001, jitter=0.001)
    options = genai_types.HttpOptions(base_url=provider.url, retry_options=retry)
    return genai.Client(api_key="any", http_options=options)


def last_completion(provider: Provider) -> Completion:
    """Return the last completion, which must have input and output tokens."""
    completion = provider.completions[-1]
    assert completion.tokens["input"] > 0
    assert completion.tokens["output"] > 0
    return completion


# ---- OpenAI chat completions


def check_chat_usage(usage: openai.types.CompletionUsage | None, completion: Completion) -> None:
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    tokens = completion.tokens
    assert usage.prompt_tokens == tokens["input"] + tokens["cache_read"]
    assert usage.prompt_tokens_details.cached_tokens == tokens["cache_read"]
    assert usage.completion_tokens == tokens["output"] + tokens["reasoning"]
    assert usage.completion_tokens_details.reasoning_tokens == tokens["reasoning"]
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_chat_completions_sync(provider: Provider) -> None:
    with OpenAI(**openai_options(provider)) as client:
        chat_completion = client.chat.completions.create(**CHAT)
        completion = last_completion(provider)
        assert chat_completion.choices[0].message.content == "".join(completion.text)
        assert chat_completion.choices[0].finish_reason == "stop"
        assert chat_completion.model == "gpt-4o-2024-08-06"
        check_chat_usage(chat_completion.usage, completion)

        chunks = list(
            client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
        )
        completion = last_completion(provider)
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].choices == []
        check_chat_usage(chunks[-1].usage, completion)
        contents = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
        assert "".join(contents) == "".join(completion.text)

        chunks = list(client.chat.completions.create(**CHAT, stream=True))
        assert all("usage" not in chunk.model_fields_set for chunk in chunks), "usage is sent on request only"


def test_chat_completions_async(provider: Provider) -> None:
    async def calls() -> None:
        async with AsyncOpenAI(**openai_options(provider)) as client:
            chat_completion = await client.chat.completions.create(**CHAT)
            check_chat_usage(chat_completion.usage, last_completion(provider))
            async with client.chat.completions.stream(
                **CHAT, stream_options={"include_usage": True}
            ) as stream:
                chat_completion = await stream.get_final_completion()
            completion = last_completion(provider)
            assert chat_completion.choices[0].message.content == "".join(completion.text)
            check_chat_usage(chat_completion.usage, completion)

    asyncio.run(calls())


# ---- OpenAI responses


def check_response(response: openai.types.responses.Response, completion: Completion) -> None:
    assert response.status == "completed"
    assert response.output_text == "".join(completion.text)
    assert [item.type for item in response.output] == ["reasoning", "message"]
    usage, tokens = response.usage, completion.tokens
    assert usage is not None
    assert usage.input_tokens == tokens["input"] + tokens["cache_read"]
    assert usage.input_tokens_details.cached_tokens == tokens["cache_read"]
    assert usage.output_tokens == tokens["output"] + tokens["reasoning"]
    assert usage.output_tokens_details.reasoning_tokens == tokens["reasoning"] > 0
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_responses_sync(provider: Provider) -> None:
    with OpenAI(**openai_options(provider)) as client:
        check_response(client.responses.create(**RESPONSES), last_completion(provider))

        events = list(client.responses.create(**RESPONSES, stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert deltas == last_completion(provider).text
        assert events[-1].type == "response.completed"
        check_response(events[-1].response, last_completion(provider))


def test_responses_async(provider: Provider) -> None:
    async def calls() -> None:
        async with AsyncOpenAI(**openai_options(provider)) as client:
            check_response(await client.responses.create(**RESPONSES), last_completion(provider))
            async with client.responses.stream(**RESPONSES) as stream:
                response = await stream.get_final_response()
            check_response(response, last_completion(provider))

    asyncio.run(calls())


# ---- Anthropic messages


def check_message(message: anthropic.types.Message, completion: Completion) -> None:
    thinking, text = message.content
    assert thinking.type == "thinking"
    assert thinking.thinking == "".join(completion.reasoning)
    assert text.type == "text"
    assert text.text == "".join(completion.text)
    assert message.stop_reason == "end_turn"
    assert message.model == "claude-sonnet-5"
    usage, tokens = message.usage, completion.tokens
    assert usage.input_tokens == tokens["input"]
    assert usage.cache_read_input_tokens == tokens["cache_read"]
    assert usage.cache_creation_input_tokens == tokens["cache_write"] + tokens["cache_write_1h"]
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_5m_input_tokens == tokens["cache_write"]
    assert usage.cache_creation.ephemeral_1h_input_tokens == tokens["cache_write_1h"]
    assert usage.output_tokens == tokens["output"] + tokens["reasoning"]
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == tokens["reasoning"] > 0


def test_messages_sync(provider: Provider) -> None:
    with Anthropic(**anthropic_options(provider)) as client:
        message = client.messages.create(**MESSAGES)
        completion = last_completion(provider)
        check_message(message, completion)
        assert completion.tokens["cache_write"] > 0
        assert completion.tokens["cache_write_1h"] > MIN_CACHED_TOKENS

        with client.messages.stream(**MESSAGES) as stream:
            message = stream.get_final_message()
        again = last_completion(provider)
        check_message(message, again)
        written = completion.tokens["cache_write"] + completion.tokens["cache_write_1h"]
        assert again.tokens["cache_read"] == written


def test_messages_async(provider: Provider) -> None:
    async def calls() -> None:
        async with AsyncAnthropic(**anthropic_options(provider)) as client:
            check_message(await client.messages.create(**MESSAGES), last_completion(provider))
            async with client.messages.stream(**MESSAGES) as stream:
                check_message(await stream.get_final_message(), last_completion(provider))

    asyncio.run(calls())


def test_messages_stream_sends_events_in_order(provider: Provider) -> None:
    with Anthropic(**anthropic_options(provider)) as client:
        kinds = [event.type for event in client.messages.create(**MESSAGES, stream=True)]

    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    without_repeats = [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]
    assert without_repeats == ["message_start", *block, *block, "message_delta", "message_stop"]


# ---- Gemini generateContent


def check_generated(response: genai_types.GenerateContentResponse, completion: Completion) -> None:
    usage, tokens = response.usage_metadata, completion.tokens
    assert usage is not None
    assert usage.prompt_token_count == tokens["input"] + tokens["cache_read"]
    assert (usage.cached_content_token_count or 0) == tokens["cache_read"]
    assert usage.candidates_token_count == tokens["output"]
    assert usage.thoughts_token_count == tokens["reasoning"] > 0
    assert usage.total_token_count == sum(tokens.values())
    assert response.model_version == "gemini-2.5-pro"


def test_generate_content_sync(provider: Provider) -> None:
    with genai_client(provider) as client:
        response = client.models.generate_content(**GENERATE)
        check_generated(response, last_completion(provider))
        assert response.text == "".join(last_completion(provider).text)

        chunks = list(client.models.generate_content_stream(**GENERATE))
        completion = last_completion(provider)
        assert [chunk.text for chunk in chunks] == completion.text
        so_far = [chunk.usage_metadata.total_token_count or 0 for chunk in chunks if chunk.usage_metadata]
        assert len(so_far) == len(chunks)
        assert so_far == sorted(so_far), "every chunk has the usage so far"
        check_generated(chunks[-1], completion)


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
def test_generate_content_async(provider: Provider) -> None:
    async def calls() -> None:
        async with genai_client(provider).aio as client:
            check_generated(await client.models.generate_content(**GENERATE), last_completion(provider))
            stream = await client.models.generate_content_stream(**GENERATE)
            chunks = [chunk async for chunk in stream]
            check_generated(chunks[-1], last_completion(provider))

    asyncio.run(calls())


@pytest.mark.parametrize(("budget", "reasons"), [(0, False), (None, True)])
def test_a_gemini_thinking_budget_of_0_disables_reasoning(
    provider: Provider, budget: int | None, reasons: bool
) -> None:
    thinking = genai_types.ThinkingConfig(thinking_budget=budget)
    config = genai_types.GenerateContentConfig(thinking_config=thinking)
    with genai_client(provider) as client:
        client.models.generate_content(**GENERATE | {"config": config})

    assert (provider.completions[-1].tokens["reasoning"] > 0) is reasons


# ---- errors


def call_openai(provider: Provider, **changes: Any) -> None:
    with OpenAI(**openai_options(provider), max_retries=0) as client:
        client.chat.completions.create(**CHAT | changes)


def call_anthropic(provider: Provider, **changes: Any) -> None:
    with Anthropic(**anthropic_options(provider), max_retries=0) as client:
        client.messages.create(**MESSAGES | changes)


def call_google(provider: Provider, *, stream: bool = False, **changes: Any) -> None:
    with genai_client(provider) as client:
        if stream:
            list(client.models.generate_content_stream(**GENERATE | changes))
        else:
            client.models.generate_content(**GENERATE | changes)


def test_the_sdks_retry_when_rate_limited() -> None:
    with Provider(speed=1000, rate_limited_every=2) as provider:
        with OpenAI(**openai_options(provider)) as client:
            create = client.chat.completions.with_raw_response.create
            assert [create(**CHAT).retries_taken for _ in range(3)] == [0, 1, 1]
        with Anthropic(**anthropic_options(provider)) as claude:
            create_message = claude.messages.with_raw_response.create
            assert [create_message(**MESSAGES).retries_taken for _ in range(3)] == [0, 1, 1]
        with genai_client(provider, retries=1) as google:
            assert all(google.models.generate_content(**GENERATE).text for _ in range(3))


def test_a_rate_limit_error_tells_the_sdk_when_to_retry() -> None:
    with Provider(speed=1000, rate_limited_every=1) as provider:
        with pytest.raises(openai.RateLimitError) as from_openai:
            call_openai(provider)
        with pytest.raises(anthropic.RateLimitError, match="rate_limit_error") as from_anthropic:
            call_anthropic(provider)
        with pytest.raises(genai_errors.ClientError, match="RESOURCE_EXHAUSTED"):
            call_google(provider)
    assert from_openai.value.code == "rate_limit_exceeded"
    assert from_openai.value.response.headers["retry-after-ms"] == "1"
    assert from_anthropic.value.response.headers["retry-after"] == "0.001"


def test_an_overloaded_provider_raises_the_sdk_s_error() -> None:
    with Provider(speed=1000, overloaded_every=1) as provider:
        with pytest.raises(openai.InternalServerError, match="currently overloaded"):
            call_openai(provider)
        with pytest.raises(anthropic.APIStatusError, match="overloaded_error") as from_anthropic:
            call_anthropic(provider)
        with pytest.raises(genai_errors.ServerError, match="UNAVAILABLE"):
            call_google(provider)
    assert from_anthropic.value.status_code == 529


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_not_found(provider: Provider, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError):
        call_openai(provider, model="no-such-model", stream=stream)
    with pytest.raises(anthropic.NotFoundError):
        call_anthropic(provider, model="no-such-model", stream=stream)
    with pytest.raises(genai_errors.ClientError, match="NOT_FOUND"):
        call_google(provider, model="no-such-model", stream=stream)


def test_a_prompt_over_the_context_window_is_an_invalid_request(provider: Provider) -> None:
    messages = [{"role": "user", "content": LONG * 100}]

    with pytest.raises(openai.BadRequestError) as from_openai:
        call_openai(provider, messages=messages)
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 200000 maximum"):
        call_anthropic(provider, messages=messages)
    with pytest.raises(genai_errors.ClientError, match="INVALID_ARGUMENT"):
        call_google(provider, contents=LONG * 500)
    assert from_openai.value.code == "context_length_exceeded"


def test_responses_have_their_provider_s_rate_limit_headers(provider: Provider) -> None:
    with OpenAI(**openai_options(provider)) as client:
        headers = client.chat.completions.with_raw_response.create(**CHAT).headers
    remaining, limit = (int(headers[f"x-ratelimit-{which}-tokens"]) for which in ("remaining", "limit"))
    assert 0 < remaining < limit
    with Anthropic(**anthropic_options(provider)) as claude:
        headers = claude.messages.with_raw_response.create(**MESSAGES).headers
    remaining, limit = (
        int(headers[f"anthropic-ratelimit-tokens-{which}"]) for which in ("remaining", "limit")
    )
    assert 0 < remaining < limit
    assert headers["anthropic-ratelimit-tokens-reset"].endswith("Z")


def test_skipping_delays_finishes_a_pending_response() -> None:
    with Provider(speed=0.001) as provider, OpenAI(**openai_options(provider), max_retries=0) as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        provider.skip_delays()
        assert len(list(stream)) > 3
