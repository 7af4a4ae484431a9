"""Free memory: what the kernel has, or less where a control group has a limit."""

import pytest

from espnet_ext.utils.machine import free_memory

GB = 2**30


@pytest.fixture
def kernel(tmp_path):
    """A /proc with 10 GB to be had, and no control groups."""
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    kilobytes = 10 * GB // 1024
    (proc / "meminfo").write_text(
        f"MemTotal:       99999999 kB\nMemAvailable:   {kilobytes} kB\nHugePages: 0\n"
    )
    return proc, tmp_path / "cgroup"


def write_group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_without_control_groups(kernel):
    assert free_memory(*kernel) == 10 * GB


def test_a_limit_of_version_2_above_the_own_group(kernel):
    proc, groups = kernel
    (proc / "self" / "cgroup").write_text("0::/job/step\n")
    own = {"memory__max": "max", "memory__current": GB, "memory__stat": "anon 5"}
    write_group(groups / "job" / "step", **own)
    write_group(
        groups / "job",
        memory__max=6 * GB,
        memory__current=3 * GB,
        memory__stat=f"anon 1\ninactive_file {GB}",
    )
    assert free_memory(proc, groups) == 4 * GB  # cached files give way


def test_a_container_of_version_1_sees_its_group_at_the_top(kernel):
    proc, groups = kernel
    (proc / "self" / "cgroup").write_text("4:cpu,cpuacct:/x\n3:memory:/docker/ab\n")
    write_group(
        groups / "memory",
        memory__limit_in_bytes=2 * GB,
        memory__usage_in_bytes=GB // 2,
        memory__stat="total_inactive_file 0",
    )
    assert free_memory(proc, groups) == 3 * GB // 2


def test_no_limit_of_version_1(kernel):
    proc, groups = kernel
    (proc / "self" / "cgroup").write_text("3:memory:/\n")
    write_group(
        groups / "memory",
        memory__limit_in_bytes=9223372036854771712,
        memory__usage_in_bytes=GB,
        memory__stat="total_inactive_file 0",
    )
    assert free_memory(proc, groups) == 10 * GB


def test_a_full_group_has_nothing_to_give(kernel):
    proc, groups = kernel
    (proc / "self" / "cgroup").write_text("0::/\n")
    group = {"memory__max": GB, "memory__current": 2 * GB, "memory__stat": "anon 1"}
    write_group(groups, **group)
    assert free_memory(proc, groups) == 0


def test_this_machine_has_some():
    assert free_memory() > 0
