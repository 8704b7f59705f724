# docker build -t crdtbucket .    The image of `crdtbucket serve`: it has no compiler and runs without root.
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
WORKDIR /source
COPY . .
RUN python -m venv /opt/crdtbucket && /opt/crdtbucket/bin/pip install --no-cache-dir '.[cli,envoy,fast]'

FROM python:3.13-slim
COPY --from=build /opt/crdtbucket /opt/crdtbucket
ENV PATH=/opt/crdtbucket/bin:$PATH PYTHONUNBUFFERED=1
# The same number as in examples/kubernetes.yaml. A state_dir must be a volume that this user may write to.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin crdtbucket
USER 10001:10001
EXPOSE 7980 7946
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7980/healthz', timeout=2)"]
ENTRYPOINT ["crdtbucket"]
# Who reaches the container decides who takes tokens: publish the port to this host only, or give --token-file,
# --tls-cert and --tls-key in place of --insecure.
CMD ["serve", "--config=/etc/crdtbucket/crdtbucket.yaml", "--listen=0.0.0.0:7980", "--insecure"]
