#!/usr/bin/env bash
# The stack without containers: collector, sidecar, Prometheus and Alertmanager as plain processes on loopback, from the configuration
# files that docker-compose.yml mounts. Ctrl-C stops them all; data stays in the folder it prints.
#
#   scripts/stack-local.sh            run until interrupted
#   scripts/stack-local.sh COMMAND…   run COMMAND with OTEL_EXPORTER_OTLP_ENDPOINT set, then stop
#
# Ports: STACK_PORT (default 14000) for OTLP/HTTP, and the seven after it: gRPC, sidecar, collector health, its metrics, the apps' metrics,
# Prometheus, Alertmanager. STACK_DATA is where ledger, queue and series go (default: a new folder under $TMPDIR).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${BIN:-$root/.venv/bin}
base=${STACK_PORT:-14000}
data=${STACK_DATA:-$(mktemp -d "${TMPDIR:-/tmp}/crewmeter-stack.XXXXXX")}
http=$base grpc=$((base + 1)) sidecar=$((base + 2)) health=$((base + 3)) own=$((base + 4)) apps=$((base + 5)) prometheus=$((base + 6)) alertmanager=$((base + 7))
mkdir -p "$data/prometheus/rules"

for program in prometheus prometheus-alertmanager; do
    command -v $program >/dev/null || { echo "error: $program is not installed" >&2; echo "hint:  scripts/install-services.sh" >&2; exit 2; }
done
for port in $(seq "$base" $((base + 7))); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "error: port $port on 127.0.0.1 is taken" >&2
        echo "hint:  STACK_PORT=<first of eight free ports> $0" >&2
        exit 2
    fi
done
collector=$("$root/scripts/build-collector.sh")

export CREWMETER_TOKEN=${CREWMETER_TOKEN:-loopback-only}
pids=()
stop() {
    trap - EXIT INT TERM
    # The senders first, so that the sidecar sees what they still had.
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    echo "stopped; data is in $data"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() { # start NAME COMMAND…
    local name=$1
    shift
    "$@" >"$data/$name.log" 2>&1 &
    pids+=($!)
}
ready() { # ready NAME URL
    for _ in $(seq 100); do
        curl -fsS -o /dev/null "$2" 2>/dev/null && return
        sleep 0.2
    done
    echo "error: $1 does not answer at $2; the end of $data/$1.log:" >&2
    tail -n 20 "$data/$1.log" >&2
    exit 1
}

start collector env \
    CREWMETER_OTLP_HTTP="127.0.0.1:$http" CREWMETER_OTLP_GRPC="127.0.0.1:$grpc" CREWMETER_COLLECTOR_HEALTH="127.0.0.1:$health" \
    CREWMETER_COLLECTOR_METRICS_PORT="$own" CREWMETER_APP_METRICS="127.0.0.1:$apps" CREWMETER_QUEUE_DIR="$data/queue" \
    CREWMETER_LEDGER_ENDPOINT="http://127.0.0.1:$sidecar" CREWMETER_TRACES_ENDPOINT="${CREWMETER_TRACES_ENDPOINT:-127.0.0.1:1}" \
    "$collector" --config="$root/collector-config/base.yaml" --config="$root/collector-config/gateway.yaml"
start crewmeter env CREWMETER_LEDGER="${CREWMETER_LEDGER:-sqlite:///$data/ledger.db}" \
    "$bin/crewmeter" serve --http-port "$sidecar" --no-grpc

# The same files as in compose; only names of services become addresses.
sed -e "s/crewmeter:4318/127.0.0.1:$sidecar/; s/collector:8888/127.0.0.1:$own/; s/collector:8889/127.0.0.1:$apps/; s/alertmanager:9093/127.0.0.1:$alertmanager/" \
    "$root/collector-config/prometheus.yml" >"$data/prometheus/prometheus.yml"
cp "$root"/dashboards/prometheus/*.yml "$data/prometheus/rules/"
printf '%s' "$CREWMETER_TOKEN" >"$data/prometheus/crewmeter-token"
chmod 600 "$data/prometheus/crewmeter-token"
start prometheus prometheus --config.file="$data/prometheus/prometheus.yml" --storage.tsdb.path="$data/prometheus/data" \
    --web.listen-address="127.0.0.1:$prometheus"
export ALERTMANAGER=prometheus-alertmanager ALERTS=${ALERTS:-off}
start alertmanager "$root/scripts/alertmanager.sh" "$root/dashboards/prometheus/alertmanager.yml" --storage.path="$data/alertmanager" \
    --web.listen-address="127.0.0.1:$alertmanager" --cluster.listen-address=

ready collector "http://127.0.0.1:$health/"
ready crewmeter "http://127.0.0.1:$sidecar/readyz"
ready prometheus "http://127.0.0.1:$prometheus/-/ready"
ready alertmanager "http://127.0.0.1:$alertmanager/-/ready"

cat <<TEXT
ready; logs and data in $data
  apps send to   OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:$http   (gRPC: $grpc)
  crewmeter      http://127.0.0.1:$sidecar/   (any user, password: \$CREWMETER_TOKEN, here "$CREWMETER_TOKEN")
  Prometheus     http://127.0.0.1:$prometheus/
  Alertmanager   http://127.0.0.1:$alertmanager/
TEXT

if (($#)); then
    OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:$http" STACK_PROMETHEUS="http://127.0.0.1:$prometheus" \
        STACK_ALERTMANAGER="http://127.0.0.1:$alertmanager" STACK_SIDECAR="http://127.0.0.1:$sidecar" "$@"
else
    wait -n "${pids[@]}" || true
    echo "error: one of the programs ended; see the logs in $data" >&2
    exit 1
fi
