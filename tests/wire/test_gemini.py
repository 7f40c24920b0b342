"""The reader of Gemini's generateContent and streamGenerateContent."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_exporter.call import TokenType
from llm_exporter.wire.framing import framing_for
from llm_exporter.wire.gemini import CachedContentReader, GenerateContentReader
from llm_exporter.wire.reader import Reading

Json = dict[str, Any]


def read(*chunks: Json) -> Reading:
    """Return the reading of a stream of these chunks."""
    reader = GenerateContentReader()
    framing = framing_for("text/event-stream", b"data:", reader)
    for each in chunks:
        framing.feed(f"data: {json.dumps(each)}\r\n\r\n".encode())
    framing.end()
    return reader.reading


def read_body(body: Json) -> Reading:
    """Return the reading of a complete response."""
    reader = GenerateContentReader()
    reader.read_body(json.dumps(body).encode())
    return reader.reading


def answer(usage: object = None, *parts: Json, **fields: Any) -> Json:
    """Return a response or a chunk, with a candidate if there are parts."""
    head: Json = {"modelVersion": "gemini-t-pro", "responseId": "t"}
    if parts:
        head["candidates"] = [{"content": {"parts": list(parts), "role": "model"}, "index": 0}]
    return {**head, **({} if usage is None else {"usageMetadata": usage}), **fields}


def modality(kind: str, number: int | None) -> Json:
    """Return one entry of a `…TokensDetails` list."""
    return {"modality": kind} if number is None else {"modality": kind, "tokenCount": number}


TEN = {"text": "Ten"}

# ---- usage objects


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param(
            {"promptTokenCount": 40, "candidatesTokenCount": 9, "totalTokenCount": 49},
            {"input": 40, "output": 9},
            id="plain",
        ),
        pytest.param(
            {
                "promptTokenCount": 40,
                "candidatesTokenCount": 9,
                "thoughtsTokenCount": 120,
                "totalTokenCount": 169,
            },
            {"input": 40, "output": 9, "reasoning": 120},  # 40 + 9 + 120 = 169
            id="candidates exclude thoughts",
        ),
        pytest.param(
            {
                "promptTokenCount": 40,
                "toolUsePromptTokenCount": 700,
                "candidatesTokenCount": 9,
                "thoughtsTokenCount": 30,
                "totalTokenCount": 779,
            },
            {"input": 740, "output": 9, "reasoning": 30},  # 40 + 700; 740 + 9 + 30 = 779
            id="prompt excludes the tool-use prompt, which is input",
        ),
        pytest.param(
            {
                "promptTokenCount": 300,
                "promptTokensDetails": [modality("TEXT", 40), modality("IMAGE", 260)],
                "toolUsePromptTokenCount": 700,
                "toolUsePromptTokensDetails": [modality("TEXT", 180), modality("IMAGE", 520)],
                "candidatesTokenCount": 1300,
                "candidatesTokensDetails": [modality("TEXT", 10), modality("IMAGE", 1290)],
                "totalTokenCount": 2300,
            },
            {"input": 220, "input_image": 780, "output": 10, "output_image": 1290},
            id="the tool-use prompt may have images, too",
        ),
        pytest.param(
            {
                "promptTokenCount": 5000,
                "cachedContentTokenCount": 4096,
                "candidatesTokenCount": 9,
                "totalTokenCount": 5009,
            },
            {"input": 904, "cache_read": 4096, "output": 9},  # 5000 - 4096
            id="prompt includes cached",
        ),
        pytest.param(
            {
                "promptTokenCount": 50,
                "cachedContentTokenCount": 60,
                "candidatesTokenCount": 9,
                "totalTokenCount": 59,
            },
            {"cache_read": 50, "output": 9},
            id="more cached than prompt",
        ),
        pytest.param(
            {"promptTokenCount": 40, "thoughtsTokenCount": 120, "totalTokenCount": 160},
            {"input": 40, "reasoning": 120},
            id="no candidates count, none left in the total",
        ),
        pytest.param(
            {"promptTokenCount": 40, "thoughtsTokenCount": 120, "totalTokenCount": 175},
            {"input": 40, "output": 15, "reasoning": 120},  # 175 - 40 - 120
            id="no candidates count, derived from the total",
        ),
        pytest.param(
            {"promptTokenCount": 40, "totalTokenCount": 12},
            {"input": 40},
            id="no candidates count, a total below the prompt",
        ),
        pytest.param(
            {
                "promptTokenCount": 1000,
                "candidatesTokenCount": 1300,
                "totalTokenCount": 2300,
                "promptTokensDetails": [
                    modality("TEXT", 100),
                    modality("IMAGE", 258),
                    modality("AUDIO", 320),
                    modality("VIDEO", 222),
                    modality("DOCUMENT", 100),
                ],
                "candidatesTokensDetails": [modality("TEXT", 10), modality("IMAGE", 1290)],
            },
            # 1000 - 258 - 320 - 222: text and documents cost the same
            {"input": 200, "input_image": 258, "input_audio": 320, "input_video": 222}
            | {"output": 10, "output_image": 1290},
            id="modalities",
        ),
        pytest.param(
            {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 600,
                "candidatesTokenCount": 5,
                "totalTokenCount": 1005,
                "promptTokensDetails": [modality("TEXT", 200), modality("AUDIO", 800)],
                "cacheTokensDetails": [modality("TEXT", 100), modality("AUDIO", 500)],
            },
            # audio: 800 of which 500 were cached; text: 200 of which 100 were
            {"input": 100, "input_audio": 300, "cache_read": 100, "cache_read_audio": 500, "output": 5},
            id="modalities of the cached part",
        ),
        pytest.param(
            {
                "promptTokenCount": 100,
                "candidatesTokenCount": 50,
                "totalTokenCount": 150,
                "promptTokensDetails": [modality("AUDIO", 90), modality("IMAGE", 90)],
                "candidatesTokensDetails": [modality("AUDIO", 51)],
            },
            {"input_audio": 90, "input_image": 10, "output_audio": 50},
            id="details above the count",
        ),
        pytest.param(
            {
                "promptTokenCount": 100,
                "candidatesTokenCount": 50,
                "totalTokenCount": 150,
                "promptTokensDetails": [modality("TEXT", 1), modality("IMAGE", None), {"tokenCount": 7}],
                "candidatesTokensDetails": None,
            },
            {"input": 100, "output": 50},
            id="details below the count, or without a number or a kind",
        ),
        pytest.param(
            {
                "promptTokenCount": 9,
                "candidatesTokenCount": 900,
                "totalTokenCount": 909,
                "candidatesTokensDetails": [modality("VIDEO", 300), modality("VIDEO", 300)],
            },
            {"input": 9, "output": 300, "output_video": 600},
            id="a modality listed twice is summed",
        ),
    ],
)
def test_tokens_are_disjoint_and_complete(usage: Json, tokens: dict[str, int]) -> None:
    """Each token is counted under one type, streamed or not."""
    assert read_body(answer(usage, TEN)).tokens == tokens
    assert read(answer(None, TEN), answer(usage, TEN)).tokens == tokens


counts = st.integers(0, 100_000)
NUMBERS = (
    "promptTokenCount",
    "cachedContentTokenCount",
    "toolUsePromptTokenCount",
    "thoughtsTokenCount",
    "candidatesTokenCount",
    "totalTokenCount",
)
LISTS = ("promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails")
modalities = st.lists(
    st.builds(modality, st.sampled_from(["TEXT", "AUDIO", "IMAGE", "VIDEO", "DOCUMENT", "SMELL"]), counts),
    max_size=5,
)
hostile = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)  # JSON has neither
    | st.sampled_from(["AUDIO", "12", ""])
    | counts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["modality", "tokenCount", *NUMBERS]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from((*NUMBERS, *LISTS, "trafficType")), hostile | modalities))
def test_damaged_usage_neither_raises_nor_invents_tokens(usage: Json) -> None:
    """Counts are positive integers that add up to no more than those in the usage object."""
    tokens = read_body(answer(usage, TEN)).tokens or {}

    numbers = [usage[name] for name in NUMBERS if isinstance(usage.get(name), int | float)]
    assert all(type(number) is int and number > 0 for number in tokens.values())
    assert set(tokens) <= set(get_args(TokenType))
    assert sum(tokens.values()) <= sum(int(number) for number in numbers if 0 < number <= 10**12)


@settings(deadline=None)
@given(data=st.data(), prompt=counts, tools=counts, thoughts=counts, out=counts, cached=counts)
def test_token_types_add_up_to_the_total_whatever_the_details_claim(
    data: st.DataObject, prompt: int, tools: int, thoughts: int, out: int, cached: int
) -> None:
    """The total includes the prompt, the tool-use prompt, thoughts and candidates."""
    usage = {
        "promptTokenCount": prompt,
        "toolUsePromptTokenCount": tools,
        "thoughtsTokenCount": thoughts,
        "candidatesTokenCount": out,
        "cachedContentTokenCount": cached,
        "totalTokenCount": prompt + tools + thoughts + out,
        **{name: data.draw(modalities) for name in LISTS},
    }

    assert sum((read_body(answer(usage)).tokens or {}).values()) == prompt + tools + thoughts + out


# ---- responses

SMALL = {"promptTokenCount": 40, "candidatesTokenCount": 9, "totalTokenCount": 49}
SMALL_TOKENS = {"input": 40, "output": 9}


def test_body_gives_the_answering_model_and_tokens() -> None:
    """The model version that answered may differ from the requested model."""
    assert read_body(answer(SMALL, TEN)) == Reading(model="gemini-t-pro", tokens=SMALL_TOKENS)  # type: ignore[arg-type]


def test_response_without_a_model_version_has_no_model() -> None:
    """Some responses do not name their model."""
    assert read_body({"usageMetadata": SMALL}).model == ""


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        pytest.param({"serviceTier": "flex"}, "flex", id="Gemini API"),
        pytest.param({"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned_throughput", id="Vertex"),
        pytest.param(
            {"trafficType": "ON_DEMAND_PRIORITY"}, "priority", id="Vertex, with the Gemini API's name"
        ),
        pytest.param({"trafficType": "ON_DEMAND_FLEX"}, "flex", id="Vertex, flex"),
        pytest.param({}, None, id="not reported"),
    ],
)
def test_service_tier_is_read_from_the_response(fields: Json, tier: str | None) -> None:
    """The Gemini API and Vertex AI name it differently."""
    assert read_body(answer({**SMALL, **fields}, TEN)).service_tier == tier


def test_requested_tier_counts_if_the_response_names_none() -> None:
    """A response that names the tier may have been served in another one."""

    def tier(**fields: str) -> str | None:
        reader = GenerateContentReader()
        reader.read_request({"contents": [], "serviceTier": "FLEX"})
        reader.read_body(json.dumps(answer({**SMALL, **fields}, TEN)).encode())
        return reader.reading.service_tier

    assert tier() == "flex"
    assert tier(serviceTier="standard") == "standard"
    assert tier(trafficType="PROVISIONED_THROUGHPUT") == "provisioned_throughput"


def test_blocked_prompt_has_usage_but_no_candidates() -> None:
    """The prompt is billed although nothing was generated."""
    blocked = answer(
        {"promptTokenCount": 25, "totalTokenCount": 25}, promptFeedback={"blockReason": "PROHIBITED_CONTENT"}
    )

    assert read_body(blocked).tokens == {"input": 25}
    assert read(blocked).tokens == {"input": 25}


@pytest.mark.parametrize("usage", [None, {}, [], "none", {"trafficType": "ON_DEMAND"}], ids=repr)
def test_response_without_counts_reports_no_usage(usage: object) -> None:
    """Missing usage differs from zero usage."""
    assert read_body(answer(usage, TEN)).tokens is None


@pytest.mark.parametrize(
    ("usages", "tokens"),
    [
        pytest.param(
            [
                {"promptTokenCount": 40, "candidatesTokenCount": 2, "totalTokenCount": 42},
                {"promptTokenCount": 40, "candidatesTokenCount": 5, "totalTokenCount": 45},
                SMALL,
            ],
            SMALL_TOKENS,
            id="cumulative",
        ),
        pytest.param(
            [{"promptTokenCount": 55, "totalTokenCount": 55}, {"promptTokenCount": 55}, SMALL],
            SMALL_TOKENS,
            id="the prompt drops in the last chunk",
        ),
        pytest.param(
            [
                {"promptTokenCount": 40, "candidatesTokenCount": 300, "totalTokenCount": 340},
                {"promptTokenCount": 40, "candidatesTokenCount": 4, "totalTokenCount": 44},
                {
                    "promptTokenCount": 40,
                    "toolUsePromptTokenCount": 500,
                    "candidatesTokenCount": 310,
                    "totalTokenCount": 850,
                },
            ],
            {"input": 540, "output": 310},
            id="code execution restarts the counts, the last chunk has totals",
        ),
        pytest.param(
            [
                {"trafficType": "ON_DEMAND"},
                {"trafficType": "ON_DEMAND"},
                {**SMALL, "trafficType": "ON_DEMAND"},
            ],
            SMALL_TOKENS,
            id="Vertex: no counts at first",
        ),
        pytest.param([SMALL, {"trafficType": "ON_DEMAND"}], SMALL_TOKENS, id="no counts in the last chunk"),
        pytest.param([SMALL, None], SMALL_TOKENS, id="no usage in the last chunk"),
    ],
)
def test_stream_uses_the_last_counts(usages: list[Json | None], tokens: dict[str, int]) -> None:
    """Each chunk repeats the counts so far, so they are never summed."""
    assert read(*(answer(usage, TEN) for usage in usages)).tokens == tokens


@pytest.mark.parametrize(
    "part",
    [
        pytest.param({"text": "T"}, id="text"),
        pytest.param({"text": "Let", "thought": True}, id="thought"),
        pytest.param({"functionCall": {"name": "f", "args": {}}}, id="function call"),
        pytest.param({"executableCode": {"language": "PYTHON", "code": "1"}}, id="code"),
        pytest.param({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}, id="image"),
    ],
)
def test_first_token_may_be_of_any_kind(part: Json) -> None:
    """Any generated content counts as a token."""
    assert read(answer(SMALL, part)).token_seen


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(answer(SMALL), id="no candidates"),
        pytest.param(answer(candidates=[{"finishReason": "STOP", "index": 0}]), id="no content"),
        pytest.param(answer(candidates=[{"content": {"role": "model"}}]), id="no parts"),
        pytest.param(answer(candidates=[{"content": {"role": "model", "parts": []}}]), id="empty parts"),
        pytest.param(answer(candidates=None), id="null"),
    ],
)
def test_chunk_without_content_is_not_the_first_token(chunk: Json) -> None:
    """A chunk may carry only counts or a finish reason."""
    assert read(chunk).token_seen is False


# ---- grounding


def grounded(*queries: str, kind: str = "web", model: str = "gemini-3-t", usage: object = None) -> Json:
    """Return a chunk whose candidate is grounded with these search queries."""
    metadata = {f"{kind}SearchQueries": list(queries), "searchEntryPoint": {"renderedContent": "<b>"}}
    return {
        "candidates": [{"content": {"parts": [TEN]}, "groundingMetadata": metadata}],
        "modelVersion": model,
        **({} if usage is None else {"usageMetadata": usage}),
    }


@pytest.mark.parametrize(
    ("body", "units"),
    [
        pytest.param(grounded("a", "b", usage=SMALL), {"web_searches": 2}, id="each query"),
        pytest.param(grounded("", "a", "a", "", usage=SMALL), {"web_searches": 1}, id="distinct, not empty"),
        pytest.param(grounded("", usage=SMALL), {}, id="empty only"),
        pytest.param(grounded(usage=SMALL), {}, id="none"),
        pytest.param(grounded("a", "b", kind="image", usage=SMALL), {"web_searches": 2}, id="images"),
        pytest.param(grounded("a", "b", kind="retrieval", usage=SMALL), {}, id="in the user's files"),
        pytest.param(
            grounded("a", "b", model="gemini-2.5-t", usage=SMALL),
            {"web_searches": 1},
            id="2.5 is billed by prompt",
        ),
        pytest.param(
            grounded("a", "b", model="gemini-live-2.5-t", usage=SMALL),
            {"web_searches": 1},
            id="2.5 live is billed by prompt",
        ),
        pytest.param(
            grounded("a", "b", model="gemini-t-2.1", usage=SMALL), {"web_searches": 2}, id="a later model"
        ),
        pytest.param(answer(SMALL, TEN), {}, id="not grounded"),
        pytest.param(
            answer(SMALL, candidates=[{"groundingMetadata": {"webSearchQueries": 7}}]), {}, id="junk"
        ),
    ],
)
def test_grounding_is_billed_by_query_or_by_prompt(body: Json, units: dict[str, float]) -> None:
    """Models up to Gemini 2.5 are billed by prompt."""
    assert read_body(body).units == units
    assert read(body).units == units


PLACE = {"maps": {"uri": "https://maps.example/1", "title": "Casa", "placeId": "places/1"}}
PAGE = {"web": {"uri": "https://example.org", "title": "example"}}


def grounded_in(model: str, **metadata: Any) -> Json:
    """Return a response with this grounding metadata."""
    return answer(SMALL, candidates=[{"groundingMetadata": metadata}], modelVersion=model)


@pytest.mark.parametrize("model", ["gemini-3-t", "gemini-2.5-t"])
@pytest.mark.parametrize(
    ("metadata", "units"),
    [
        pytest.param({"groundingChunks": [PLACE, PLACE]}, {"maps_searches": 1}, id="Google Maps"),
        pytest.param({"groundingChunks": [PAGE]}, {}, id="pages without queries"),
        pytest.param({"groundingChunks": [None, "maps", {"maps": None}]}, {}, id="junk"),
        pytest.param({"retrievalQueries": ["a", "b"]}, {"retrievals": 1}, id="the user's own data"),
        pytest.param(
            {"groundingChunks": [PAGE, PLACE], "webSearchQueries": ["a"]},
            {"web_searches": 1, "maps_searches": 1},
            id="both",
        ),
    ],
)
def test_each_grounding_tool_has_a_unit(metadata: Json, units: dict[str, float], model: str) -> None:
    """A response names no queries to Google Maps, so that only one can be counted."""
    body = grounded_in(model, **metadata)
    assert read_body(body).units == units
    assert read(answer(None, TEN), body, body).units == units


def test_enterprise_web_search_has_a_separate_unit() -> None:
    """Its price differs, and only the request names it."""
    reader = GenerateContentReader()
    reader.read_request({"tools": [{"enterpriseWebSearch": {}}]})
    reader.read_body(json.dumps(grounded("a", "b", usage=SMALL)).encode())
    assert reader.reading.units == {"enterprise_web_searches": 2}


@pytest.mark.parametrize(
    ("fields", "hours"),
    [
        pytest.param(
            {"createTime": "2026-11-24T20:00:00.123456789Z", "expireTime": "2026-11-24T21:30:00.123456789Z"},
            1.5,
            id="90 minutes",
        ),
        pytest.param({"expireTime": "2026-11-24T21:00:00Z"}, 0, id="no start"),
        pytest.param({"createTime": 7, "expireTime": "soon"}, 0, id="junk"),
        pytest.param(
            {"createTime": "2026-11-24T20:00:00Z", "expireTime": "2026-11-24T19:00:00Z"}, 0, id="backwards"
        ),
        pytest.param(
            {"createTime": "2026-11-24T20:00:00Z", "expireTime": "2026-11-24T21:00:00"}, 0, id="no zone"
        ),
    ],
)
def test_cache_is_billed_as_storage_until_it_expires(fields: Json, hours: float) -> None:
    """The unit is a token for an hour."""
    reader = CachedContentReader()
    cache = {"model": "models/gemini-t", "usageMetadata": {"totalTokenCount": 2000}, **fields}
    reader.read_body(json.dumps(cache).encode())
    assert reader.reading.tokens == {"cache_write": 2000}
    assert reader.reading.units == ({"cache_token_hours": 2000 * hours} if hours else {})


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([answer(SMALL, TEN), grounded("a", "b", usage=SMALL)], id="in the last chunk"),
        pytest.param([grounded("a", "b"), answer(SMALL, TEN)], id="in the first chunk"),
        pytest.param([answer(SMALL, TEN), grounded("a", "b")], id="in a chunk without counts"),
        pytest.param(
            [answer(SMALL, TEN), grounded("a", usage=SMALL), grounded("a", "b", usage=SMALL)], id="growing"
        ),
        pytest.param([grounded("a"), grounded("b"), grounded(), answer(SMALL, TEN)], id="one by one"),
        pytest.param([grounded("a", "b", usage=SMALL)] * 3, id="repeated"),
    ],
)
def test_grounding_is_counted_once_however_it_is_streamed(chunks: list[Json]) -> None:
    """Chunks may repeat earlier queries."""
    assert read(*chunks).units == {"web_searches": 2}


FAILED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize("before", [[], [answer(SMALL, TEN)]], ids=["at once", "after the first token"])
def test_error_inside_a_stream_is_read(before: list[Json]) -> None:
    """The error arrives after HTTP 200. Earlier counts are kept."""
    reading = read(*before, FAILED)

    assert (reading.error, reading.tokens) == ("UNAVAILABLE", SMALL_TOKENS if before else None)


def test_error_body_is_read() -> None:
    """An error response is plain JSON."""
    assert read_body(FAILED) == Reading(error="UNAVAILABLE")


def test_text_that_mentions_usage_carries_none() -> None:
    """Quotes inside a JSON string are escaped, so generated text cannot be mistaken for a key."""
    talk = {"text": 'It says "usageMetadata": {"promptTokenCount": 999}, "error": {"code": 500}.'}

    assert not GenerateContentReader().may_carry_usage(json.dumps(answer(None, talk)).encode())
    reading = read(answer(SMALL, TEN), answer(None, talk))
    assert (reading.tokens, reading.error) == (SMALL_TOKENS, None)


def test_function_argument_named_error_is_not_an_error() -> None:
    """The model generates the arguments of a function call, which may have any key."""
    call = {"functionCall": {"name": "report", "args": {"error": {"code": 7}, "usageMetadata": {"n": 9}}}}
    reading = read(answer(SMALL, TEN), answer(None, call))

    assert (reading.tokens, reading.error) == (SMALL_TOKENS, None)
