"""Free memory: what the kernel has, or less where a control group has a limit."""

from espnet_ext.utils.machine import free_memory


def test_the_smallest_limit_on_the_way_up_counts(tmp_path):
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (groups / "job" / "step").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    assert free_memory(proc, groups) == 8000 * 1024
    (proc / "self" / "cgroup").write_text("0::/job/step\n")
    for name, limit in (("job", "5000"), ("job/step", "max")):
        (groups / name / "memory.max").write_text(limit)
        (groups / name / "memory.current").write_text("3000")
        (groups / name / "memory.stat").write_text("inactive_file 1000\n")
    assert free_memory(proc, groups) == 5000 - (3000 - 1000)
