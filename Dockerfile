# syntax=docker/dockerfile:1
# headgate's image: build in one stage, run in another that has no compiler and no package tools of ours.
#   docker build -t headgate:0.1.0 .
# A Debian base on purpose: google-re2 has wheels for glibc (amd64, arm64) and none for musl.
ARG PYTHON_VERSION=3.13
ARG DEBIAN=bookworm

FROM python:${PYTHON_VERSION}-slim-${DEBIAN} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# Wheels alone, each checked against its hash: nothing is compiled and no set-up script of others runs.
RUN python -m venv /opt/headgate \
    && python -m venv /opt/build \
    && /opt/headgate/bin/pip install --require-hashes --only-binary :all: -r requirements.lock \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY policies policies
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/dist . \
    && /opt/headgate/bin/pip install --no-deps --no-index /tmp/dist/headgate-*.whl \
    && /opt/headgate/bin/python -m compileall -q /opt/headgate/lib \
    && /opt/headgate/bin/pip check \
    && /opt/headgate/bin/pip uninstall -y pip

FROM python:${PYTHON_VERSION}-slim-${DEBIAN}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="headgate" \
      org.opencontainers.image.description="Sidecar reverse proxy for OpenAI-compatible traffic" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/headgate /opt/headgate
# PYTHONDONTWRITEBYTECODE: the root file system may be read-only. /etc/headgate: mount policy.yaml there.
ENV PATH=/opt/headgate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /etc/headgate
USER 10001:10001
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# For docker and compose; Kubernetes uses its own probes. No curl in the image, and no proxy variable is obeyed.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 9090, timeout=2); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["headgate"]
CMD ["serve"]
