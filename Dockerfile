FROM python:3.14.8-slim-trixie AS build

WORKDIR /src
RUN python -m venv /opt/llm-exporter
COPY pyproject.toml README.md ./
COPY exporter exporter
COPY grafana grafana
COPY prometheus prometheus
RUN /opt/llm-exporter/bin/pip install --no-cache-dir ".[all]"


FROM python:3.14.8-slim-trixie

# Not root, and nobody that the host knows.
RUN useradd --system --uid 9847 --no-create-home --shell /usr/sbin/nologin llm-exporter
COPY --from=build /opt/llm-exporter /opt/llm-exporter
ENV PATH=/opt/llm-exporter/bin:$PATH PYTHONUNBUFFERED=1
USER 9847
WORKDIR /tmp
EXPOSE 9847
# A live sample workload, until there is a service to run. Docker publishes the port; see docker-compose.yml.
CMD ["llm-exporter", "demo", "--host", "0.0.0.0", "--no-stack"]
