"""What this machine is: the name of its processor, without importing anything heavy."""

import platform
from pathlib import Path


def processor_name() -> str:
    """Model of the CPU as the kernel calls it, or the architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
