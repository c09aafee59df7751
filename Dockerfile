# The chat example as an image:   docker build -t chat .
# Your own app, a folder in here: docker build --build-arg APP_DIR=my_app -t my-app .
#   The folder has app.py with `app`, and may have requirements.txt and package-lock.json.
# Run it:
#   docker run -p 8080:8080 --stop-timeout 40 -e AzureSignalRConnectionString='Endpoint=...' chat
# It ends in an orderly way: up to 33 seconds after SIGTERM (see `signalr-upstream run --help`).

ARG PYTHON=3.13

FROM node:20-slim AS page
ARG APP_DIR=examples/chat
WORKDIR /app
COPY ${APP_DIR}/ ./
RUN if [ -f package-lock.json ]; then npm ci --omit=dev --no-audit --no-fund; fi

FROM python:${PYTHON}-slim AS packages
ARG APP_DIR=examples/chat
WORKDIR /source
RUN python -m venv /venv
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY signalr_upstream/ signalr_upstream/
RUN /venv/bin/pip install --no-cache-dir --constraint requirements.lock '.[fast]'
COPY ${APP_DIR}/ /app/
RUN if [ -f /app/requirements.txt ]; then /venv/bin/pip install --no-cache-dir -r /app/requirements.txt; fi

FROM python:${PYTHON}-slim
RUN useradd --system --no-create-home app
COPY --from=packages /venv /venv
COPY --from=page /app /app
WORKDIR /app
USER app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SIGNALR_UPSTREAM_APP=app:app \
    SIGNALR_UPSTREAM_RUN_HOST=0.0.0.0 \
    SIGNALR_UPSTREAM_RUN_PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"SIGNALR_UPSTREAM_RUN_PORT\"]}/healthz', timeout=2)"]
CMD ["signalr-upstream", "run"]
