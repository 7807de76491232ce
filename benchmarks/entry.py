"""What the servers import: the app that ``BENCHMARK_APP`` names, in ``BENCHMARK_DIRECTORY``."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks import regenerating
from benchmarks.apps import make

_NAME, _DIRECTORY = os.environ["BENCHMARK_APP"], Path(os.environ["BENCHMARK_DIRECTORY"])

if _NAME in regenerating.APPS:
    app = regenerating.make(_NAME, _DIRECTORY)  # found by a process that makes pages new
    application = regenerating.visited(_NAME, app)
else:
    application = make(_NAME, _DIRECTORY)

if __name__ == "__main__":  # bjoern has no command of its own
    import bjoern

    bjoern.run(application, "127.0.0.1", int(os.environ["BENCHMARK_PORT"]))
