"""conf/slurm.conf in the form that ESPnet users know."""

from pathlib import Path

import pytest

from espnet_ext.errors import UserError
from espnet_ext.jobs.slurm_conf import parse_command, read_slurm_conf, sbatch_options

ROOT = Path(__file__).parents[2]

# conf/slurm.conf as espnet/egs2/TEMPLATE has it
ESPNETS = """\
# Default configuration
command sbatch --export=PATH
option name=* --job-name $0
option time=* --time $0
option mem=* --mem-per-cpu $0
option mem=0
option num_threads=* --cpus-per-task $0
option num_threads=1 --cpus-per-task 1
option num_nodes=* --nodes $0
default gpu=0
option gpu=0 -p cpu
option gpu=* -p gpu --gres=gpu:$0 -c $0  # Recommend more CPUs than GPUs
# note: the --max-jobs-run option is supported as a special case
# by slurm.pl and you don't have to handle it in the config file.
"""


def write(folder, text):
    path = folder / "slurm.conf"
    path.write_text(text)
    return path


def test_espnets_own_file(tmp_path):
    conf = read_slurm_conf(write(tmp_path, ESPNETS))
    assert conf.command == ("sbatch", "--export=PATH")
    assert sbatch_options(conf, {}) == ["-p", "cpu"]
    assert sbatch_options(conf, {"gpu": "2", "mem": "4G", "max_jobs_run": "3"}) == [
        *("-p", "gpu", "--gres=gpu:2", "-c", "2"),
        *("--mem-per-cpu", "4G"),
    ]
    assert sbatch_options(conf, {"gpu": "0", "mem": "0"}) == ["-p", "cpu"]
    assert sbatch_options(conf, {"num_threads": "1"})[2:] == ["--cpus-per-task", "1"]


def test_our_own_file_knows_all_that_cmd_sh_says():
    conf = read_slurm_conf(ROOT / "conf" / "slurm.conf")
    text = (ROOT / "cmd.sh").read_text()
    commands = [
        line.split('"')[1] for line in text.splitlines() if "slurm.pl -" in line
    ]
    assert len(commands) == 3
    for command in commands:
        program, options = parse_command(command)
        assert program == "slurm.pl"
        assert "--time" in sbatch_options(conf, {**options, "gpu": "1"})


def test_commands_are_read_as_slurm_pl_does():
    assert parse_command("slurm.pl --num-threads 4 --mem=8G") == (
        "slurm.pl",
        {"num_threads": "4", "mem": "8G"},
    )
    assert parse_command("run.pl") == ("run.pl", {})


@pytest.mark.parametrize("text", ["", "slurm.pl --mem", "slurm.pl mem 4G"])
def test_malformed_commands_are_named(text):
    with pytest.raises(UserError, match=r"cmd\.sh"):
        parse_command(text)


@pytest.mark.parametrize(
    "line", ["options mem=* --mem $0", "option mem", "default gpu=0 1", "option 'x"]
)
def test_malformed_lines_are_named(tmp_path, line):
    path = write(tmp_path, f"command sbatch\n{line}\n")
    with pytest.raises(UserError, match=r"slurm\.conf:2: "):
        read_slurm_conf(path)


def test_an_option_without_a_line_is_named(tmp_path):
    conf = read_slurm_conf(write(tmp_path, ESPNETS))
    with pytest.raises(UserError, match=r"no line for qos=high; .*option qos=\*"):
        sbatch_options(conf, {"qos": "high"})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"slurm\.conf: No such file"):
        read_slurm_conf(tmp_path / "slurm.conf")
