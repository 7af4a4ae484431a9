# shellcheck shell=bash
# Where jobs run, as in ESPnet: source it, do not run it.
#
#   local   on this machine, one after the other
#   slurm   through sbatch; what follows the word are sbatch's own options, so put your
#           cluster's partition and account there
#
# train_cmd is for work on CPUs (preparation, audio check, scoring), cuda_cmd for work that
# takes the GPUs asked for with --ngpu (extraction, training), decode_cmd for inference.

cmd_backend="${cmd_backend:-local}"

case "${cmd_backend}" in
    local)
        export train_cmd="local"
        export cuda_cmd="local"
        export decode_cmd="local"
        ;;
    slurm)
        export train_cmd="slurm --cpus-per-task=4 --mem=16G --time=12:00:00"
        export cuda_cmd="slurm --cpus-per-task=4 --mem=32G --gres=gpu:1 --time=24:00:00"
        export decode_cmd="slurm --cpus-per-task=4 --mem=16G --time=4:00:00"
        ;;
    *)
        echo "error: cmd.sh: cmd_backend=${cmd_backend} is not known; use local or slurm" >&2
        return 1
        ;;
esac
export cmd_backend
