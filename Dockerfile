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
# The ledger; what is mounted here is to be this user's.
RUN install --directory --owner=9847 --group=9847 /var/lib/llm-exporter
ENV PATH=/opt/llm-exporter/bin:$PATH PYTHONUNBUFFERED=1 XDG_DATA_HOME=/var/lib XDG_STATE_HOME=/var/lib
USER 9847
WORKDIR /tmp
VOLUME /var/lib/llm-exporter
EXPOSE 9847
# Docker publishes the port; see docker-compose.yml.
CMD ["llm-exporter", "serve", "--host", "0.0.0.0"]
