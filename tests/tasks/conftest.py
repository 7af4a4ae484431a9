"""A small corpus and two trainings on it that several tests look at."""

import pytest
import torch
from tiny_corpus import (
    make_corpus,
    small,
)
from training_runs import RESUME, train


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    return train(corpus, tmp_path_factory.mktemp("whole") / "exp", **small(**RESUME))


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    options = small(max_epoch=6, scheduler_conf="warmup_steps=10")
    return train(corpus, output, **options)
