# The image all pipeline steps run in: `make image`.
# For GPU nodes build with --build-arg TENSORFLOW='tensorflow[and-cuda]==2.21.0'.
FROM python:3.11-slim-bookworm
ARG TENSORFLOW=""
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=3
WORKDIR /opt/estimator-pipelines
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt ${TENSORFLOW}
COPY pyproject.toml README.md LICENSE ./
COPY estimator_lib estimator_lib
COPY transforms transforms
COPY components components
COPY pipelines pipelines
# By number, for Kubernetes cannot see that a name is not root. A cluster may choose another user
# (OpenShift does): it is of group 0, which may do in the home directory what its owner may.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --uid 1000 --gid 0 --create-home steps && chmod -R g=u /home/steps
ENV HOME=/home/steps
USER 1000:0
WORKDIR /home/steps
