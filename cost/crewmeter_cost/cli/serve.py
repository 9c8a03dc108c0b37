"""``crewmeter serve``.

The sidecar that takes OTLP from any app and keeps the ledger.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.cli.options import LedgerOption
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import install_command

if TYPE_CHECKING:
    from crewmeter_cost.sidecar.settings import SidecarSettings

__all__ = ["register"]

HostOption = Annotated[
    str,
    typer.Option(
        "--host", help="Address to listen on. Beyond loopback it needs a key, or --insecure."
    ),
]
HttpOption = Annotated[
    int,
    typer.Option(
        "--http-port",
        min=0,
        max=65535,
        help="OTLP/HTTP, metrics, page and API. 0 picks a free port.",
    ),
]
GrpcOption = Annotated[
    int, typer.Option("--grpc-port", min=0, max=65535, help="OTLP/gRPC. 0 picks a free port.")
]
NoGrpcOption = Annotated[bool, typer.Option("--no-grpc", help="HTTP only.")]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="Keys, one a line: KEY, ingest:KEY, read:KEY or content:KEY. "
        "$CREWMETER_TOKEN takes the same.",
    ),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Listen beyond loopback without a key.")
]
CertificateOption = Annotated[
    Path | None, typer.Option("--tls-cert", help="PEM certificate chain; with --tls-key.")
]
PrivateKeyOption = Annotated[
    Path | None, typer.Option("--tls-key", help="PEM private key; with --tls-cert.")
]


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("serve", help=help)
    def command(
        ledger: LedgerOption = None,
        host: HostOption = "127.0.0.1",
        http_port: HttpOption = 4318,
        grpc_port: GrpcOption = 4317,
        no_grpc: NoGrpcOption = False,
        token_file: TokenOption = None,
        insecure: InsecureOption = False,
        tls_cert: CertificateOption = None,
        tls_key: PrivateKeyOption = None,
    ) -> None:
        from crewmeter_cost.sidecar import json_logs

        json_logs.configure()  # first: what an import warns of is a line of JSON too
        try:
            from crewmeter_cost.sidecar import server
            from crewmeter_cost.sidecar.api_keys import keys_from
            from crewmeter_cost.sidecar.settings import SidecarSettings
        except ModuleNotFoundError as error:
            raise CrewMeterError(
                f"the sidecar needs {error.name}", hint=install_command("sidecar")
            ) from error
        settings: SidecarSettings = SidecarSettings(
            host=host,
            http_port=http_port,
            grpc_port=None if no_grpc else grpc_port,
            ledger=ledger,
            keys=keys_from(os.environ.get("CREWMETER_TOKEN"), token_file),
            insecure=insecure,
            certificate=tls_cert,
            private_key=tls_key,
        )
        server.serve(settings)
