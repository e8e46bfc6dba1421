"""Random numbers that depend on the place in the training, not on its history or the number of processes."""

import numpy as np
import torch


def seed_torch(*keys: int) -> None:
    """Seed torch's generators, on every device, from a tuple of numbers such as (seed, image count, phase).

    Each micro-batch is seeded so before it is worked on: hence a resumed run draws what the uninterrupted one
    would have drawn, and several processes draw together what one would have drawn.
    """
    torch.manual_seed(int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1)))
