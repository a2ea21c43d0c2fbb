"""Run a command and say, on a line of its own after all that it prints, what it took: time, peak memory, exit code.

`python -I -S peak.py COMMAND ...`. On Linux a new process starts out with the peak memory of the one that made it.
That is why this one imports next to nothing: its few megabytes are less than any command here takes.
"""

import json
import os
import sys
import time

if __name__ == "__main__":
    start = time.perf_counter()
    process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
    _, status, usage = os.wait4(process, 0)
    taken = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),  # macOS alone counts bytes
        "exit_code": os.waitstatus_to_exitcode(status),
    }
    print("\n" + json.dumps(taken))
