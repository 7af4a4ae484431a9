# shellcheck shell=bash
# Where jobs run, as in ESPnet: source it, do not run it.
#
#   local   on this machine, --nj at a time, and no more than have the memory (--mem, what
#           one process needs) and the GPUs
#   slurm   as job arrays with dependencies; how the options below become sbatch's, and
#           your cluster's partitions and account, is in conf/slurm.conf. The name
#           slurm.pl is ESPnet's; the program itself is not needed.
#
# train_cmd is for work on CPUs (preparation, sets, scoring), cuda_cmd for extraction and
# training, decode_cmd for inference. --gpu is added from --ngpu. `--max_jobs_run N` bounds
# how many jobs of an array run at the same time.

cmd_backend="${cmd_backend:-local}"

case "${cmd_backend}" in
    local)
        export train_cmd="run.pl --mem 2G"
        export cuda_cmd="run.pl --mem 4G"
        export decode_cmd="run.pl --mem 3G"
        ;;
    slurm)
        export train_cmd="slurm.pl --num_threads 4 --mem 16G --time 12:00:00"
        export cuda_cmd="slurm.pl --num_threads 4 --mem 32G --time 24:00:00"
        export decode_cmd="slurm.pl --num_threads 4 --mem 16G --time 4:00:00"
        ;;
    *)
        echo "error: cmd.sh: cmd_backend=${cmd_backend} is not known;" \
            "use local or slurm" >&2
        return 1
        ;;
esac
export cmd_backend
