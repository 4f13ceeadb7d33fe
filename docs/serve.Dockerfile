# An example, which has not been built: `docker build -f docs/serve.Dockerfile -t dlnotes-serve .`
# in the checkout, then
#   docker run --read-only --tmpfs /tmp -p 8000:8000 -v "$PWD/runs/reviews:/run-folder:ro" dlnotes-serve
# It answers to localhost, every IP address and the container's own hostname. Where clients call it by
# another name (a proxy that passes the header Host on, a service of Compose or Kubernetes), put that
# name at the end of this command: --allowed-hosts classify.example.org classifier
FROM python:3.11-slim

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# torch for the CPU alone; without the index it comes with CUDA, which is several gigabytes.
RUN pip install --no-cache-dir --constraint constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu '.[serve]'

RUN useradd --create-home served
USER served
EXPOSE 8000
# exec form, so that SIGTERM reaches the server and it answers what is in flight.
ENTRYPOINT ["dlnotes", "serve", "/run-folder", "--host", "0.0.0.0", "--port", "8000"]
