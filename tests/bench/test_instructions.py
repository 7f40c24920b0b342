"""Reading what Callgrind has counted."""

from __future__ import annotations

from bench.instructions import counts


def test_instructions_are_counted_by_call_and_thread() -> None:
    def output(name: str, thread: int, total: int) -> str:
        return f"thread: {thread}\ndesc: Trigger: Client Request: call:{name}\nfn=(1) f\ntotals: {total}\n"

    outputs = [
        output("google-genai-async/raw", 1, 30),
        output("google-genai-async/metered", 1, 40),
        output("google-genai-async/metered", 2, 5),
        "thread: 1\ndesc: Trigger: Program termination\n",
    ]
    raw, metered = ("google-genai-async", "raw"), ("google-genai-async", "metered")
    assert counts(outputs) == {raw: {1: 30}, metered: {1: 40, 2: 5}}
