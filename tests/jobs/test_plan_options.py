"""What the options of ser_plan mean for the executor."""

import pytest

from espnet_ext.bin.ser_plan import (
    get_parser,
    main,
    memory_bound,
    memory_of,
)
from espnet_ext.jobs.memory import available_memory

GB = 2**30


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
