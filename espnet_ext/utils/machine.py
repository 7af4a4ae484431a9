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
    Slurm job's) has a limit. Cached files count as free: they give way.

    Args:
        proc: Where the kernel describes processes.
        cgroups: Where it describes control groups, of version 1 or 2.
    """
    lines = (proc / "meminfo").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    rooms = [int(facts["MemAvailable"].split()[0]) * 1024]
    for folder in _own_groups(proc / "self" / "cgroup", cgroups):
        room = _room(folder)
        if room is not None:
            rooms.append(max(room, 0))
    return min(rooms)


def _own_groups(listing: Path, cgroups: Path) -> list[Path]:
    """List the folders of this process' control group and all that it is part of."""
    try:
        lines = listing.read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = cgroups / "memory" if controllers else cgroups
        # In a container the path can be the host's: then only the top is there.
        folder = top / path.lstrip("/")
        folders += [f for f in (folder, *folder.parents) if f.is_relative_to(top)]
    return folders


def _room(folder: Path) -> int | None:
    """Return what a group may still take; None if it has no limit."""
    for limit_name, usage_name, cache_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = (folder / limit_name).read_text().strip()
            usage = int((folder / usage_name).read_text())
            lines = (folder / "memory.stat").read_text().splitlines()
        except OSError:
            continue
        if limit == "max":
            return None
        cache = int(dict(line.split() for line in lines).get(cache_name, 0))
        return int(limit) - (usage - cache)
    return None
