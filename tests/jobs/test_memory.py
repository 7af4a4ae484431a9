"""Sizes of memory, read and written."""

import pytest

from espnet_ext.errors import UserError
from espnet_ext.jobs.memory import format_size, parse_size

GB = 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", 4 * GB),
        ("800M", 800 * 2**20),
        ("4000", 4000 * 2**20),
        ("1.5gb", 1.5 * GB),
    ],
)
def test_sizes_are_read_as_slurm_reads_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "4X", "-1G"])
def test_what_is_no_size_is_named(text):
    with pytest.raises(UserError, match="is no size of memory"):
        parse_size(text)


def test_sizes_are_written():
    assert format_size(int(1.25 * GB)) == "1.2 GB"
