# The image all pipeline steps run in: `make image`, `make image REQUIREMENTS=requirements-gpu.txt`.
# The digest is that of the index of 3.11.16; of a later one it is printed by
#   docker buildx imagetools inspect python:3.11-slim-bookworm
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
ARG REQUIREMENTS=requirements.txt
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=3
WORKDIR /opt/estimator-pipelines
COPY requirements.txt requirements-gpu.txt requirements-build.txt ./
# What has no wheel is built with these too: pip would fetch others, unchecked.
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements-build.txt
RUN pip install --no-cache-dir --no-deps --require-hashes --no-build-isolation -r ${REQUIREMENTS}
COPY pyproject.toml README.md LICENSE ./
COPY estimator_lib estimator_lib
COPY transforms transforms
COPY components components
COPY pipelines pipelines
# By number, for Kubernetes cannot see that a name is not root. A cluster may choose another user
# (OpenShift does): it is of group 0, which may do in the home directory what its owner may.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --uid 1000 --gid 0 --create-home steps && chmod -R g=u /home/steps
# Modules of a user's own: `COPY my_module.py /opt/code/` in an image that is made FROM this one.
ENV HOME=/home/steps PYTHONPATH=/opt/code
USER 1000:0
WORKDIR /home/steps
