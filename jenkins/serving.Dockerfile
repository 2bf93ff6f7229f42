# The image of a prediction server. Build it in the root of the repository:
#
#   docker build -f jenkins/serving.Dockerfile -t serving .
#   docker run -p 8000:8000 -e MLFLOW_TRACKING_URI -e SERVING_TOKENS -v serving:/app/.ct serving --workers 2
#
# Arguments after the image's name are those of `ct serve`. If src/ has several models, add -e MODEL=NAME. No layer contains
# a secret. The volume keeps the models, so that the server also starts while the registry is away.

FROM python:3.11-slim-bookworm AS packages
COPY jenkins/serving.lock /serving.lock
# Wheels only, each by its hash: no package runs code during the installation.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r /serving.lock
# The libraries that the models import. A version that needs another one installs it when it is opened.
COPY src /src
RUN PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: UV_NO_CACHE=1 UV_NO_BUILD=1 \
    sh /src/continuous_training/extras/install.sh /venv /src/

FROM python:3.11-slim-bookworm
# LightGBM loads the system's OpenMP; other libraries bring their own.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
# Kubernetes' runAsNonRoot requires a number; the name is for programs that look up the user.
RUN groupadd --gid 10001 serving \
    && useradd --uid 10001 --gid 10001 --home-dir /app/.ct --no-create-home --shell /usr/sbin/nologin serving \
    && install --directory --owner=10001 --group=10001 /app/.ct /predictions
WORKDIR /app
COPY --from=packages /venv /venv
COPY scripts/serve.py scripts/serve.py
COPY src src
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app/src \
    PYTHONUNBUFFERED=1
# After the folder has its owner: a new volume copies it.
VOLUME /app/.ct
USER 10001:10001
EXPOSE 8000
# Not urllib, which would use a proxy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
from http.client import HTTPConnection; \
connection = HTTPConnection('127.0.0.1', 8000, timeout=4); \
connection.request('GET', '/health'); \
raise SystemExit(connection.getresponse().status != 200)"]
ENTRYPOINT ["python", "scripts/serve.py", "--host", "0.0.0.0"]
# The default model is the only one under src/, or MODEL.
CMD []
