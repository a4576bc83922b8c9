# hmrb on a CPU (target cpu) or on NVIDIA GPUs (target cuda, the default), with the versions in uv.lock.
# docs/systems.md says how to run it.
FROM python:3.12-slim AS base
COPY --from=ghcr.io/astral-sh/uv:0.8 /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/hmrb PATH=/opt/hmrb/bin:$PATH \
    HMRB_HOME=/data PYTHONUNBUFFERED=1
RUN uv venv /opt/hmrb
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE NOTICE ./
COPY hmrb ./hmrb
COPY specs ./specs
ENTRYPOINT ["hmrb"]
CMD ["--help"]

# The lock without torch and the libraries that only a GPU needs; then the same version of torch, built for CPUs.
FROM base AS cpu
RUN uv export --frozen --no-dev --no-hashes --no-emit-project --extra export --extra video -o /tmp/lock.txt \
    && grep -E '^torch(vision)?==' /tmp/lock.txt > /tmp/torch.txt \
    && grep -vE '^(torch(vision)?==|nvidia-|cuda-|triton==)' /tmp/lock.txt > /tmp/rest.txt \
    && uv pip install --no-deps -r /tmp/torch.txt --index-url https://download.pytorch.org/whl/cpu \
    && uv pip install --no-deps -r /tmp/rest.txt \
    && uv pip install --no-deps . && rm -rf /src /tmp/*.txt
WORKDIR /work
RUN useradd --create-home hmrb && mkdir -p /data && chown hmrb /work /data
USER hmrb

FROM base AS cuda
RUN uv sync --active --frozen --no-dev --no-editable --extra export --extra video && rm -rf /src
WORKDIR /work
RUN useradd --create-home hmrb && mkdir -p /data && chown hmrb /work /data
USER hmrb
