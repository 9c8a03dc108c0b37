"""Run the named apps one after the other in this process, under one meter, and print when each
began and ended.

``python play.py simple tool providers:anthropic:stream``; each line on stdout starting with ``@@``
is a JSON object. The apps run unchanged with any CrewAI from 1.13 on; only this script knows the
meter.
"""

import json
import os
import sys
import time
import traceback

import crewmeter

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


def play(name):
    """One app: import it, run its ``main``, say how it went."""
    module, *arguments = name.split(":")
    began, error = time.time_ns(), None
    try:
        main = __import__(module).main
        if arguments:
            main(arguments[0], arguments[1] == "stream")
        else:
            main()
    except Exception as raised:  # noqa: BLE001  one app's failure must not hide the others' books
        traceback.print_exc()
        error = f"{type(raised).__name__}: {raised}"
    crewmeter.flush()
    print(
        "\n@@ "
        + json.dumps({"app": name, "began_ns": began, "ended_ns": time.time_ns(), "error": error}),
        flush=True,
    )


if __name__ == "__main__":
    crewmeter.instrument()
    for wanted in sys.argv[1:]:
        play(wanted)
