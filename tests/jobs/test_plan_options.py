"""What the options of ser_plan mean for the executor."""

import pytest

from espnet_ext.bin.ser_plan import (
    get_parser,
    gpus_of_runs,
    main,
    memory_bound,
    memory_of,
)
from espnet_ext.errors import UserError
from espnet_ext.jobs.memory import available_memory

GB = 2**30


@pytest.mark.parametrize(
    ("ngpu", "visible", "dealt"),
    [
        (0, "0123", []),
        (1, "012", ["0", "1", "2"]),
        (2, "0123", ["0,1", "2,3"]),
        (2, "567", ["5,6"]),  # one is left over
        (2, "", []),  # none to be seen: the program itself says so
    ],
)
def test_gpus_of_runs(ngpu, visible, dealt):
    assert gpus_of_runs(ngpu, list(visible)) == dealt


def test_too_few_gpus_are_named():
    with pytest.raises(UserError, match="--ngpu 4, but this machine offers 2: 0, 1"):
        gpus_of_runs(4, ["0", "1"])


def options(monkeypatch, *words):
    monkeypatch.setenv("train_cmd", "run.pl")
    monkeypatch.setenv("cuda_cmd", "run.pl --mem 4G")
    monkeypatch.setenv("decode_cmd", "run.pl --mem 800M")
    return get_parser().parse_args([*words])


def test_memory_of_a_process_is_what_cmd_sh_says(monkeypatch):
    args = options(monkeypatch)
    found = [memory_of(kind, args) for kind in ("train", "cuda", "decode")]
    assert found == [0, 4 * GB, 800 * 2**20]
    assert memory_of("cuda", options(monkeypatch, "--mem", "7G")) == 7 * GB
    assert memory_of("cuda", options(monkeypatch, "--mini_seed", "0")) == GB


def test_memory_of_all_is_most_of_what_is_free(monkeypatch):
    assert memory_bound(options(monkeypatch, "--max_mem", "12G")) == 12 * GB
    found = memory_bound(options(monkeypatch))
    assert found == pytest.approx(0.9 * available_memory(), rel=0.2)


def test_no_size_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--max_mem", "much"])
    assert "'much' is no size of memory" in capsys.readouterr().err
