"""What this machine is and has free, without importing anything heavy."""

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


def free_memory(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes of memory that this process may still take.

    That is what the kernel has to give, or less where a control group (a container's, a
    Slurm job's; version 1 or 2) has a limit. Cached files count as free: they give way.
    """
    lines = (proc / "meminfo").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    free = int(facts["MemAvailable"].split()[0]) * 1024
    try:
        groups = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return free
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = cgroups / "memory" if controllers else cgroups
        # In a container the path can be the host's: then only the top is there.
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(top):
                free = min(free, max(_room(group, free), 0))
    return free


def _room(group: Path, unlimited: int) -> int:
    """What a control group may still take, or `unlimited` if it has no limit."""
    for limit_name, usage_name, cache_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = (group / limit_name).read_text().strip()
            usage = int((group / usage_name).read_text())
            lines = (group / "memory.stat").read_text().splitlines()
        except OSError:
            continue
        cache = int(dict(line.split() for line in lines).get(cache_name, 0))
        return unlimited if limit == "max" else int(limit) - (usage - cache)
    return unlimited
