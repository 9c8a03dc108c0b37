"""The collector's configurations, checked by the collector itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.collector_parts import CONFIGS, ROOT

OVERLAYS = [
    ("agent",),
    ("gateway",),
    ("agent", "agent-two-gateways"),
    ("gateway", "beside-langfuse"),
    ("gateway", "beside-phoenix"),
    ("gateway", "beside-datadog"),
    ("gateway", "beside-langfuse", "beside-datadog"),
    ("gateway", "crewai-amp"),
]
pytestmark = pytest.mark.services


def validate(binary: str, *files: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts/validate-collector.py"
    return subprocess.run(
        [sys.executable, script, binary, *files], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("overlays", OVERLAYS, ids="+".join)
def test_every_config_is_valid(binary, overlays):
    """The collector built from our manifest accepts every configuration we ship."""
    done = validate(binary, CONFIGS / "base.yaml", *(CONFIGS / f"{name}.yaml" for name in overlays))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("right", "typo"),
    [
        ("max_elapsed_time: 0", "max_elapsd_time: 0"),
        ("[memory_limiter, transform/content", "[memory_limitr, transform/content"),
        ("  otlp_http/ledger:", "  otlp_htp/ledger:"),
        ("connectors:\n", "connectors\n"),
        ("block_on_overflow: true", "block_on_overflow: certainly"),
        ('["crewmeter.sampled_out"] == true', '["crewmeter.sampled_out"] = true'),
    ],
)
def test_a_typo_fails_naming_the_line(binary, tmp_path, right, typo):
    """A mistyped setting is refused with its file and line.

    The collector's own message lacks both.

    Which the collector's own message lacks.
    """
    text = (CONFIGS / "gateway.yaml").read_text()
    assert right in text
    broken = tmp_path / "gateway.yaml"
    broken.write_text(text.replace(right, typo, 1))
    done = validate(binary, CONFIGS / "base.yaml", broken)
    assert done.returncode == 1
    named = re.match(rf"{re.escape(str(broken))}:(\d+): ", done.stderr)
    assert named, done.stderr
    at = text[: text.index(right)].count("\n") + 1
    assert abs(int(named[1]) - at) <= 1, (
        done.stderr
    )  # YAML itself notices a missing colon one line later


def test_a_gateway_without_base_does_not_start(binary):
    """A gateway without base.yaml does not start.

    Content protection lives in base.yaml, so it would leak.

    Who forgets it gets an error, not a pipeline that leaks.
    """
    done = validate(binary, CONFIGS / "gateway.yaml")
    assert done.returncode == 1
    assert "no receiver configuration" in done.stderr


def test_the_manifest_has_exactly_the_components_used():
    """The manifest has exactly the components that configurations use.

    One that nobody configures is weight and attack surface.

    One that is missing is found by validation.
    """
    manifest = yaml.safe_load((CONFIGS / "builder.yaml").read_text())
    built = {
        _component(entry["gomod"])
        for kind in ("extensions", "receivers", "processors", "connectors", "exporters")
        for entry in manifest[kind]
    }
    used = set()
    for file in CONFIGS.glob("*.yaml"):
        if file.name not in ("builder.yaml", "tempo.yaml"):
            config = yaml.safe_load(file.read_text())
            for kind in ("extensions", "receivers", "processors", "connectors", "exporters"):
                used |= {name.split("/")[0] for name in config.get(kind, {})}
    assert built == {name.replace("_", "") for name in used}


def _component(gomod: str) -> str:
    """Return ``tailsampling`` for ``…/processor/tailsamplingprocessor v0.155.0``.

    The gRPC exporter is called otlp_grpc in configurations.

    The gRPC exporter is called otlp_grpc in configurations.
    """
    module = gomod.split(maxsplit=1)[0].rsplit("/", 1)[1]
    if module == "otlpexporter":
        return "otlpgrpc"
    return re.sub(r"(processor|receiver|exporter|connector|extension)$", "", module)


def test_one_release_of_every_component():
    """All components are of one release, as they are tested together upstream.

    A mix is not.
    """
    manifest = yaml.safe_load((CONFIGS / "builder.yaml").read_text())
    releases = {
        entry["gomod"].split()[1]
        for kind in ("extensions", "receivers", "processors", "connectors", "exporters")
        for entry in manifest[kind]
    }
    assert releases == {f"v{manifest['dist']['version']}"}
