"""A chat model that calls each of its tools once and then answers, and remembers who asked it."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from support.metered import Metered
from support.scripted import Request, Response, Server, sse

TEXT = "Final Answer: seven"
"""What it answers."""
_WHO = re.compile(r"You are (\w+)(?: in (\w+))?")


class ActingModel:
    """Responds to OpenAI chat completions, streamed or not.

    The first `You are writer` or `You are writer in draft` of a request says which agent and phase asks. Each
    response uses one input token more than the one before, so that its call can be told from all others.
    """

    def __init__(self, server: Server) -> None:
        self.url = f"{server.url}/v1"
        self.argument = "all"
        """The value of each required argument of a tool."""
        self._asked: dict[int, tuple[str, str]] = {}
        """The agent and phase that asked, by the input tokens of the response."""
        response = Response(b"", answer=self._answer)
        server.respond_with("/chat/completions", response)

    def assert_labels(self, metered: Metered, expected: dict[tuple[str, str], int]) -> None:
        """Assert how many calls each agent and phase made, by their labels and by what they asked."""
        calls = Counter((call.agent, call.phase) for call in metered.calls)
        assert calls == expected, calls
        asked = Counter(agent for agent, _ in self._asked.values())
        assert asked == sum((Counter({agent: n}) for (agent, _), n in expected.items()), Counter[str]()), (
            asked
        )

    def share(self, metered: Metered) -> float:
        """Return the share of the dollars whose calls have the agent that asked."""
        right = total = 0.0
        for call in metered.calls:
            total += call.total_cost
            agent, _ = self._asked.pop(call.tokens["input"])
            right += call.total_cost if call.agent == agent else 0.0
        assert total > 0
        assert not self._asked
        return right / total

    def _answer(self, request: Request) -> Response:
        body = json.loads(request.body)
        who = _WHO.search(request.body.decode())
        tokens = 1000 + len(self._asked)
        self._asked[tokens] = (who[1], who[2] or "unattributed") if who else ("unattributed", "unattributed")
        calls = self._calls_of(body)
        finish = "tool_calls" if calls else "stop"
        usage = {"prompt_tokens": tokens, "completion_tokens": 100, "total_tokens": tokens + 100}
        about: dict[str, Any] = {"id": f"chat-{tokens}", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            content = {"content": None, "tool_calls": calls} if calls else {"content": TEXT}
            choice: dict[str, Any] = {
                "index": 0,
                "message": {"role": "assistant", **content},
                "finish_reason": finish,
            }
            whole = {**about, "object": "chat.completion", "choices": [choice], "usage": usage}
            return Response(json.dumps(whole).encode())
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if calls else TEXT}]
        deltas += [{"tool_calls": [call]} for call in calls]
        choices: list[Any] = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
        choices += [[{"index": 0, "delta": {}, "finish_reason": finish}], []]
        chunk = {**about, "object": "chat.completion.chunk"}
        events = [{**chunk, "choices": each, "usage": None if each else usage} for each in choices]
        return Response(
            [*sse(*map(json.dumps, events)), b"data: [DONE]\n\n"], content_type="text/event-stream"
        )

    def _calls_of(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a call of each tool, if the request has tools and none has been called."""
        if any(message["role"] == "tool" for message in body["messages"]):
            return []
        calls = []
        for index, tool in enumerate(body.get("tools") or ()):
            function = tool["function"]
            required = function.get("parameters", {}).get("required", ())
            arguments = json.dumps(dict.fromkeys(required, self.argument))
            call = {"name": function["name"], "arguments": arguments}
            calls.append({"index": index, "id": f"call-{index}", "type": "function", "function": call})
        return calls
