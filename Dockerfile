FROM python:3.14.8-slim-trixie@sha256:f85c5697265c178cc6887276c55fe16cf3d14ca35c3df6a5eab3b360534a55d2 AS build

WORKDIR /src
RUN python -m venv /opt/llm-exporter
# The releases in the lock, checked by their hashes.
COPY requirements-image.lock ./
RUN /opt/llm-exporter/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
# What `llm-exporter bundle` writes.
COPY docs docs
COPY grafana grafana
COPY prometheus prometheus
RUN /opt/llm-exporter/bin/pip install --no-cache-dir --no-deps --no-build-isolation .


FROM python:3.14.8-slim-trixie@sha256:f85c5697265c178cc6887276c55fe16cf3d14ca35c3df6a5eab3b360534a55d2 AS runtime

# A system user with a fixed uid, so that mounted files can be given to it.
RUN useradd --system --uid 9847 --no-create-home --shell /usr/sbin/nologin llm-exporter
COPY --from=build /opt/llm-exporter /opt/llm-exporter
# The ledger. A volume mounted here must be writable by uid 9847.
RUN install --directory --owner=9847 --group=9847 --mode=0700 /var/lib/llm-exporter
# Requests need the token in /run/secrets/llm-exporter-token. Mount another file here to change that.
COPY prometheus/compose/llm-exporter.yml /etc/llm-exporter/llm-exporter.yml
ENV PATH=/opt/llm-exporter/bin:$PATH PYTHONUNBUFFERED=1 XDG_DATA_HOME=/var/lib XDG_STATE_HOME=/var/lib
USER 9847
WORKDIR /tmp
VOLUME /var/lib/llm-exporter
EXPOSE 9847
# Listens on all addresses of the container; docker-compose.yml publishes the port on loopback only.
CMD ["llm-exporter", "serve", "--host", "0.0.0.0", "--config", "/etc/llm-exporter/llm-exporter.yml"]


# The sample workload: docker build --target demo .
FROM runtime AS demo

COPY demo /opt/demo/demo
COPY tools /opt/demo/tools
ENV PYTHONPATH=/opt/demo
CMD ["python", "-m", "demo", "--host", "0.0.0.0", "--no-stack"]


# The default target: the service, without the demo.
FROM runtime
