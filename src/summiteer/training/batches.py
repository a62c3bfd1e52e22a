"""Which examples come when, and the random numbers of a step: all named by the seed.

Nothing is carried from step to step, so that a training taken up again needs no state
of a generator.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from summiteer.cells import digest_arrays
from summiteer.draws import TRAINING, Draws, philox
from summiteer.errors import UserError
from summiteer.population import Population

#: Streams after TRAINING: the order of examples, and the model's own random numbers.
_ORDER, _MODEL, _SPLIT = 0, 1, 2


def batches(ids: Tensor, size: int, seed: int, epoch: int) -> list[Tensor]:
    """The places of each batch's examples, in ascending order within a batch.

    Args:
        ids: `[n]` int64, which name the random numbers.
        size: of a batch; the last one may be smaller.
        seed: of the training.
        epoch: from 0.
    """
    order = _order(ids, seed, epoch, _ORDER)
    return [part.sort().values for part in torch.split(order, size)]


def split(ids: Tensor, seed: int, held_out: int) -> tuple[Tensor, Tensor]:
    """(places trained on, places held out), drawn at random, in ascending order.

    Args:
        ids: `[n]` int64.
        seed: of the training.
        held_out: how many.
    """
    order = _order(ids, seed, 0, _SPLIT)
    return order[held_out:].sort().values, order[:held_out].sort().values


def part_of(population: Population, places: Tensor) -> Population:
    """Some of the examples.

    Args:
        population: all of them.
        places: `[rows]` in ascending order.

    Raises:
        UserError: there are none.
    """
    if not len(places):
        raise UserError("DATA: no example is left on one side of the split.")
    chosen = {"chosen": digest_arrays({"": places})}
    return replace(
        population,
        head=population.part(places[: len(population.head)]),
        ids=population.ids[places],
        digests={**population.digests, **chosen},
        part=lambda index: population.part(places[index]),
    )


def _order(ids: Tensor, seed: int, epoch: int, stream: int) -> Tensor:
    draws = Draws(seed, ids, torch.full_like(ids, epoch), TRAINING + stream)
    return draws.uniform(1)[:, 0].argsort(stable=True)


def reseed(seed: int, epoch: int, batch: int, use: int, device: torch.device) -> None:
    """Give torch's global generators numbers that this name alone determines.

    Args:
        seed: of the training.
        epoch: from 0.
        batch: from 0.
        use: 0 for the maximisation, 1 for the minimisation.
        device: where the model is.
    """
    counter = np.array([epoch, batch, use, 0], dtype=np.uint64)
    low, high, *_ = philox(counter, (seed, TRAINING + _MODEL)).tolist()
    number = (high << 32) | low
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(number)


@contextmanager
def own_world(model: nn.Module) -> Iterator[None]:
    """Train with gradients on; torch's global random state is put back afterwards.

    Args:
        model: where it is says which generators it may draw from.
    """
    cuda = any(weight.is_cuda for weight in model.parameters())
    devices = range(torch.cuda.device_count()) if cuda else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        yield
