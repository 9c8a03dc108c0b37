#!/usr/bin/env bash
# Builds the slim collector from its manifest and prints the path of the binary.
#
#   scripts/build-collector.sh            build unless a binary of this very manifest is cached
#   scripts/build-collector.sh --if-built only print the cached one; exit 1 when there is none (for tests)
#
# The cache is keyed by the manifest's content and the Go version, so that an unchanged manifest costs nothing in CI.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
manifest="$root/collector-config/builder.yaml"
name=$(sed -n 's/^  name: *//p' "$manifest")
version=$(sed -n 's/^  version: *//p' "$manifest")

if ! command -v go >/dev/null; then
    echo "error: the collector is built with Go, and 'go' is not on PATH" >&2
    echo "hint:  install Go 1.25 or newer, or use the otel/opentelemetry-collector-contrib:$version image with the same configs" >&2
    exit 2
fi

key=$({ cat "$manifest"; go env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-16)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/crewmeter/collector/$key"
binary="$cache/$name"

if [[ -x $binary ]]; then
    echo "$binary"
    exit 0
fi
[[ ${1:-} == --if-built ]] && exit 1

mkdir -p "$cache"
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "building $name $version (once per manifest) in $cache" >&2
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -mod=mod"
GOBIN="$work/bin" go install "go.opentelemetry.io/collector/cmd/builder@v$version" >&2
# The builder writes main.go; the module file is made here from the same manifest, and `go build` fetches what is linked and nothing
# else. The builder's own fetch step would also resolve the modules that only the components' tests use: hundreds more downloads, and one
# that is missing there fails the build.
cp "$manifest" "$work/builder.yaml"
(cd "$work" && ./bin/builder --config=builder.yaml --skip-compilation --skip-get-modules) >&2
(
    cd "$work/_build"
    go mod init "$name"
    go mod edit -require="go.opentelemetry.io/collector/otelcol@v$version"
    sed -n 's/^ *- gomod: *//p' "$manifest" | while read -r module release; do
        go mod edit -require="$module@$release"
    done
    go build -trimpath -ldflags="-s -w" -o "$work/$name" .
) >&2
mv "$work/$name" "$binary"
echo "$binary"
