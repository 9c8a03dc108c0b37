#!/usr/bin/env bash
# Installs the programs the full suite drives and that no Python package brings: Prometheus, Alertmanager, a Chromium.
# Debian and Ubuntu only; elsewhere it names what is missing, and the tests that need it skip with its name.
set -euo pipefail

packages=()
command -v prometheus >/dev/null && command -v promtool >/dev/null || packages+=(prometheus)
command -v prometheus-alertmanager >/dev/null && command -v amtool >/dev/null || packages+=(prometheus-alertmanager)
[[ -x /usr/bin/chromium ]] || packages+=(chromium)
ldconfig -p | grep -q libpangoft2 || packages+=(libpango-1.0-0 libpangoft2-1.0-0) # statement --pdf
command -v npm >/dev/null || packages+=(nodejs npm)

if ((${#packages[@]})); then
    if ! command -v apt-get >/dev/null || ((EUID != 0)); then
        echo "error: missing: ${packages[*]}" >&2
        echo "hint:  install them with your package manager (as root: apt-get install ${packages[*]})" >&2
        exit 2
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
# Types and libraries of npm that the boards are compiled against and the page is built from; versions are locked beside them.
npm ci --prefix "$(dirname "${BASH_SOURCE[0]}")/../dashboards/web" --no-audit --no-fund --loglevel=error >/dev/null
echo "services: $(prometheus --version 2>&1 | head -n 1 | cut -d' ' -f1-3), $(prometheus-alertmanager --version 2>&1 | head -n 1 | cut -d' ' -f1-3), $(/usr/bin/chromium --version 2>/dev/null || echo no chromium)"
