# The sidecar as a small image: non-root, at home on a read-only root file system, one volume for the ledger.
#   docker build -t crewmeter .
#   docker run --read-only --tmpfs /tmp -v ledger:/var/lib/crewmeter -e CREWMETER_TOKEN=… -p 127.0.0.1:4318:4318 crewmeter
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG EXTRAS=sidecar,postgres
WORKDIR /src
COPY . .
RUN python -m venv /opt/crewmeter \
 && /opt/crewmeter/bin/pip install --no-cache-dir --disable-pip-version-check ".[${EXTRAS}]" \
 && /opt/crewmeter/bin/python -m compileall -q /opt/crewmeter/lib \
 && find /opt/crewmeter -depth -type d \( -name tests -o -name test \) -path '*/site-packages/*' -exec rm -rf {} +

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="crewmeter" \
      org.opencontainers.image.description="The meter for CrewAI: OTLP in, priced ledger, metrics and boards out" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 crewmeter \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/crewmeter --no-create-home --shell /usr/sbin/nologin crewmeter \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/crewmeter
COPY --from=build /opt/crewmeter /opt/crewmeter
ENV PATH=/opt/crewmeter/bin:$PATH \
    HOME=/var/lib/crewmeter \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CREWMETER_LEDGER=sqlite:////var/lib/crewmeter/ledger.db
USER 10001:10001
VOLUME /var/lib/crewmeter
EXPOSE 4317 4318
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4318/readyz', timeout=2)"]
ENTRYPOINT ["crewmeter"]
# Beyond loopback it refuses to start without CREWMETER_TOKEN.
CMD ["serve", "--host", "0.0.0.0", "--http-port", "4318", "--grpc-port", "4317"]
