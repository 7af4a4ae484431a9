"""Features at mean 0 and variance 1 of the training set; schedules that do not fit."""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from espnet_ext.train.schedule import describe_misfit
from espnet_ext.train.training_mvn import TrainingMVN


def test_moments_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    scale = np.array([0.01, 1.0, 300.0])
    rows = [rng.normal(-8, 1, (n, 3)) * scale for n in (5, 40, 17)]
    rows = [np.c_[r, np.full(len(r), 2.5)].astype(np.float32) for r in rows]
    norm = TrainingMVN(4)
    norm.set_moments(map(torch.from_numpy, rows))
    batch = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(r) for r in rows], True)
    made, _ = norm(batch, torch.tensor([5, 40, 17]))
    scaler = StandardScaler().fit(np.concatenate(rows).astype(np.float64))
    for row, values in zip(made, rows, strict=True):
        expected = scaler.transform(values.astype(np.float64))
        np.testing.assert_allclose(row[: len(values)], expected, rtol=0, atol=2e-4)
        assert (row[len(values) :] == 0).all()


def test_statistics_travel_with_the_parameters():
    norm = TrainingMVN(2)
    norm.set_moments([torch.tensor([[1.0, 5.0], [3.0, 9.0]])])
    other = TrainingMVN(2)
    other.load_state_dict(norm.state_dict())
    made, _ = other(torch.tensor([[[2.0, 9.0]]]))
    torch.testing.assert_close(made, torch.tensor([[[0.0, 1.0]]]))


def test_warm_up_beyond_the_training_is_said_with_the_preset():
    text = describe_misfit(15_000, 14, 1000)
    assert text is not None
    for part in ("15000 steps", "1000 epochs of 14 steps: 14000", "conf/small/train_"):
        assert part in text
    assert describe_misfit(15_000, 15, 1000) is None
    assert describe_misfit(0, 1, 1) is None
