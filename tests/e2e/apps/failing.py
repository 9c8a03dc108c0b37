"""The provider refuses every call with 400: the kickoff raises, nothing is billed."""

from common import agent, crew, task


def main():
    refusal = None
    try:
        crew(task(agent(), "Fail. [[fail:400]]")).kickoff()
    except Exception as error:  # noqa: BLE001  what it raises differs between versions
        refusal = str(error)
    if "400" not in (refusal or ""):
        raise SystemExit(f"the kickoff should have raised the provider's 400, got {refusal!r}")
