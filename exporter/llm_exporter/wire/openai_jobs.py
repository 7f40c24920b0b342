"""What OpenAI runs after it has responded: assistants, fine-tuning jobs, evaluations, containers and agents.

Runs: https://platform.openai.com/docs/api-reference/runs. Fine-tuning jobs: .../fine-tuning. Evaluations:
.../evals. Containers: .../containers.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from typing_extensions import override

from .fields import count, decoder, error_code, mapping, sequence, text
from .openai_responses import container_unit
from .openai_usage import read_usage, requested_tier, tokens_of
from .reader import Reader, Reading

_UNFINISHED: Final = frozenset(
    {"queued", "in_progress", "requires_action", "cancelling", "validating_files", "running", "paused"}
)


class _Run(msgspec.Struct):
    object: Any = None
    id: Any = None
    status: Any = None
    model: Any = None
    usage: Any = None
    last_error: Any = None
    delta: Any = None


_decode_run: Final = decoder(_Run)


class RunReader(Reader):
    """A run of an assistant. It has usage when it is finished."""

    operation = "chat"

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return b'"thread.run"' in data

    @override
    def read_body(self, data: bytes) -> None:
        self._read_run(_decode_run(data))

    @override
    def read_event(self, data: bytes) -> None:
        event = _decode_run(data)
        if event.object == "thread.run":
            self._read_run(event)
        elif text(event.object).endswith(".delta"):
            delta = mapping(event.delta)
            self.note_generated(delta.get("content") or delta.get("step_details"))

    def _read_run(self, run: _Run) -> None:
        reading = self.reading
        reading.response_id = text(run.id)
        reading.model = text(run.model) or reading.model
        reading.pending = text(run.status) in _UNFINISHED
        if run.status == "failed":
            reading.error = error_code(run.last_error) or "failed"
        if usage := mapping(run.usage):
            read_usage(usage, reading)


class RetrievedRunReader(RunReader):
    """A run that an earlier request created: one that is polled, or that continues with a tool's output."""

    is_retrieval = True


class _FineTuning(msgspec.Struct):
    id: Any = None
    status: Any = None
    model: Any = None
    trained_tokens: Any = None
    method: Any = None
    error: Any = None


_decode_fine_tuning: Final = decoder(_FineTuning)


class _JobReader(Reader):
    """A job whose responses are not streamed."""

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return False

    @override
    def read_event(self, data: bytes) -> None:
        pass


class FineTuningReader(_JobReader):
    """A fine-tuning job. When it is finished, it has the number of billed tokens.

    Reinforcement fine-tuning is billed by time instead: https://openai.com/api/pricing.
    """

    operation = "fine_tuning"

    @override
    def read_body(self, data: bytes) -> None:
        job, reading = _decode_fine_tuning(data), self.reading
        reading.response_id = text(job.id)
        reading.model = text(job.model) or reading.model
        reading.pending = text(job.status) in _UNFINISHED
        if reading.pending or not job.status:
            return
        reading.tokens = {}
        if job.status == "failed":
            reading.error = error_code(mapping(job.error)) or "failed"
        if mapping(job.method).get("type") == "reinforcement":
            reading.units = {"reinforcement_trainings": 1}
        elif trained := count(job.trained_tokens):
            reading.units = {"trained_tokens": trained}


class RetrievedFineTuningReader(FineTuningReader):
    """A fine-tuning job that an earlier request created."""

    is_retrieval = True


class _Evaluation(msgspec.Struct):
    id: Any = None
    status: Any = None
    per_model_usage: Any = None
    error: Any = None


_decode_evaluation: Final = decoder(_Evaluation)


class EvaluationReader(_JobReader):
    """A run of an evaluation. When it is finished, it has the usage of each model."""

    operation = "evaluation"

    @override
    def read_body(self, data: bytes) -> None:
        run, reading = _decode_evaluation(data), self.reading
        reading.response_id = text(run.id)
        reading.pending = text(run.status) in _UNFINISHED
        if reading.pending or not run.status:
            return
        reading.sub_calls = [
            Reading(model=text(usage.get("model_name")), tokens=tokens_of(usage))
            for usage in map(mapping, sequence(run.per_model_usage))
            if usage
        ]
        if not reading.sub_calls:
            reading.tokens = {}
        if run.status == "failed":
            reading.error = error_code(mapping(run.error)) or "failed"


class RetrievedEvaluationReader(EvaluationReader):
    """A run of an evaluation that an earlier request created."""

    is_retrieval = True


class _Grade(msgspec.Struct):
    model_grader_token_usage_per_model: Any = None


_decode_grade: Final = decoder(_Grade)


class GraderReader(_JobReader):
    """A run of a grader, which may ask several models.

    Source: https://platform.openai.com/docs/api-reference/graders/run.
    """

    operation = "evaluation"

    @override
    def read_body(self, data: bytes) -> None:
        by_model = _decode_grade(data).model_grader_token_usage_per_model
        if by_model == {}:
            self.reading.tokens = {}
        calls = [
            Reading(model=model, tokens=tokens)
            for model, usage in mapping(by_model).items()
            if (tokens := tokens_of(mapping(usage)))
        ]
        if calls:
            self.reading.model, self.reading.tokens = calls[0].model, calls[0].tokens
            self.reading.sub_calls = calls[1:]


class _Container(msgspec.Struct):
    id: Any = None
    memory_limit: Any = None


_decode_container: Final = decoder(_Container)


class ContainerReader(_JobReader):
    """A container that is created before a response runs code in it."""

    operation = "container"

    @override
    def read_body(self, data: bytes) -> None:
        container = _decode_container(data)
        if name := text(container.id):
            self.reading.tokens = {}
            self.reading.containers = {name: container_unit({"memory_limit": container.memory_limit})}


class _Session(msgspec.Struct):
    id: Any = None
    status: Any = None
    agent: Any = None
    usage: Any = None
    error: Any = None


class _SessionEvent(msgspec.Struct):
    type: Any = None
    session: msgspec.Raw = msgspec.Raw()
    delta: Any = None


_decode_session: Final = decoder(_Session)
_decode_session_event: Final = decoder(_SessionEvent)


class AgentSessionReader(Reader):
    """A session of a hosted agent, with the tokens of all its turns so far.

    Source: the resource `beta.agents` of openai 3.
    """

    operation = "invoke_agent"
    is_running_total = True

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return b'"session"' in data

    @override
    def read_body(self, data: bytes) -> None:
        session, reading = _decode_session(data), self.reading
        agent = mapping(session.agent)
        reading.response_id = text(session.id)
        reading.model = text(agent.get("model")) or reading.model
        reading.service_tier = requested_tier(agent) or reading.service_tier
        if session.status == "failed":
            reading.error = error_code(mapping(session.error)) or "failed"
        if usage := mapping(session.usage):
            read_usage(usage, reading)
        reading.pending = not reading.tokens

    @override
    def read_event(self, data: bytes) -> None:
        event = _decode_session_event(data)
        if text(event.type).endswith(".delta"):
            self.note_generated(event.delta)
        elif session := bytes(event.session):
            self.read_body(session)


class RetrievedAgentSessionReader(AgentSessionReader):
    """A session that an earlier request created."""

    is_retrieval = True
