"""`python -m benchmarks`: see `benchmarks.runner`."""

from __future__ import annotations

import sys

from benchmarks.runner import main
from tests.server_process import end_by_signals

end_by_signals()
sys.exit(main())
