# The prediction server's image. From the project's root:
#
#   docker build -f jenkins/serving.Dockerfile -t serving .
#   docker run -p 8000:8000 -e MLFLOW_TRACKING_URI -e SERVING_TOKENS -v serving:/app/.ct serving --workers 2
#
# What follows the image's name are arguments of `ct serve`; where src/ has several models, add -e MODEL=NAME. Addresses
# and secrets come with `docker run`; none is in a layer. The volume keeps the models that it has served, so that it starts without its registry too.

FROM python:3.11-slim-bookworm AS packages
COPY jenkins/serving.lock /serving.lock
# Wheels alone, each by its hash: nothing is compiled, and what a package's set-up would do is not done here.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r /serving.lock

FROM python:3.11-slim-bookworm
# The number is what Kubernetes' runAsNonRoot can judge; the name is for what asks who it is, and where its home is.
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
# After the folder has its owner: a new volume begins with what is there.
VOLUME /app/.ct
USER 10001:10001
EXPOSE 8000
# Not by urllib, which would ask a proxy if one is set.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
from http.client import HTTPConnection; \
asked = HTTPConnection('127.0.0.1', 8000, timeout=4); \
asked.request('GET', '/health'); \
raise SystemExit(asked.getresponse().status != 200)"]
ENTRYPOINT ["python", "scripts/serve.py", "--host", "0.0.0.0"]
# No model by default: the only one under src/, or the one that MODEL names.
CMD []
