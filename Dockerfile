# Three images of one code base: `api` (also exports, sweeper, migrations; without torch), `generation`, `training`.
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SEEDBED_HOME=/srv/seedbed HF_HOME=/tmp/hf OMP_WAIT_POLICY=PASSIVE
RUN useradd --uid 10001 --create-home --home-dir /srv/seedbed seedbed \
    && install --directory --owner seedbed --group seedbed /srv/seedbed/files
WORKDIR /build
# The dependencies first, on empty packages, so that a change of the code does not install them again.
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir app workers migrations && touch app/__init__.py workers/__init__.py migrations/__init__.py

FROM base AS api
RUN pip install -c constraints.txt '.[s3]'
COPY . .
RUN pip install -c constraints.txt --no-deps --force-reinstall .
WORKDIR /srv/seedbed
USER seedbed
EXPOSE 8000
CMD ["uvicorn", "app.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS generation
RUN pip install -c constraints.txt '.[generation,s3]'
COPY . .
RUN pip install -c constraints.txt --no-deps --force-reinstall .
WORKDIR /srv/seedbed
USER seedbed
CMD ["celery", "-A", "app.jobs.queue:app", "worker", "-Q", "generation", "-I", "workers.generation", "--pool", "threads", \
     "-c", "4", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO"]

FROM base AS training
RUN pip install -c constraints.txt '.[training,s3]'
COPY . .
RUN pip install -c constraints.txt --no-deps --force-reinstall .
WORKDIR /srv/seedbed
USER seedbed
CMD ["celery", "-A", "app.jobs.queue:app", "worker", "-Q", "finetuning", "-I", "workers.finetuning", "--pool", "threads", \
     "-c", "1", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO"]
