"""One program over several nodes of a Slurm job: ESPnet's distributed training.

``srun`` starts the program once on each node; with several GPUs there, ESPnet starts
one process a GPU itself. ESPnet would read the master's address off Slurm's node list,
and reads it wrongly where the list is compressed (``gpu-[01-04]`` becomes ``gpu``), so
it is given.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

from espnet_ext.errors import UserError
from espnet_ext.jobs.step import Step


def call_over_nodes(step: Step) -> int:
    """Run the step's program on all nodes of this Slurm job.

    Returns:
        The exit status; not 0 as soon as the program has failed on one node.

    Raises:
        UserError: If this is no Slurm job of as many nodes.
    """
    held = os.environ.get("SLURM_JOB_NUM_NODES", "")
    if held != str(step.nodes):
        raise UserError(
            f"{step.name} is to run on {step.nodes} nodes, but "
            + (f"this Slurm job has {held}" if held else "this is no Slurm job")
            + "; give --cmd_backend slurm, or --num_nodes 1"
        )
    # The batch script runs on the first node, and so does the process of rank 0.
    command = srun_command(step, socket.gethostname(), _free_port(), os.environ)
    return subprocess.run(command, check=False).returncode


def srun_command(
    step: Step, master: str, port: int, environment: Mapping[str, str]
) -> list[str]:
    """Make the command: one task a node, and where to meet."""
    command = [
        *("srun", f"--nodes={step.nodes}", f"--ntasks={step.nodes}"),
        *("--ntasks-per-node=1", "--kill-on-bad-exit=1"),
        "--export=ALL",  # sbatch's --export=PATH would be handed on to srun
    ]
    # Slurm does not hand this on to srun by itself any more (22.05).
    if "SLURM_CPUS_PER_TASK" in environment:
        command.append(f"--cpus-per-task={environment['SLURM_CPUS_PER_TASK']}")
    command += [sys.executable, "-m", step.module, *step.args]
    command += ["--dist_launcher", "slurm", "--dist_master_addr", master]
    command += ["--dist_master_port", str(port)]
    command += ["--dist_backend", "nccl" if step.gpus else "gloo"]
    return command


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
