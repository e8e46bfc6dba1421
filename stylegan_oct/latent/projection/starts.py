"""Where a projection begins: the best of the class mean, the nearest pictures of a library, and an encoder's guess."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from stylegan_oct.batches import seen_at_once
from stylegan_oct.latent.classspace import ClassSpace
from stylegan_oct.latent.library import Library
from stylegan_oct.latent.projection.encoder import Encoder
from stylegan_oct.latent.projection.objective import Objective
from stylegan_oct.model import OctGenerator
from torch_utils.images import to_unit

SHORTLIST = 16   # pictures of a class that are looked at closely, the nearest by thumbnails
THUMBNAIL = 16   # pixels; a search over thousands in milliseconds
READ = 64        # pictures of the library at once


class LibraryStarts:
    """The pictures of a library, ready to be searched for what resembles a scan.

    Args:
        library: drawn by the generator that is projected into.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self.w = library.w.to(torch.float32)
        self.labels = torch.from_numpy(library.labels)
        self.thumbnails = torch.cat([_thumbnails(self.pixels(range(begin, min(begin + READ, len(library)))))
                                     for begin in range(0, len(library), READ)])

    def pixels(self, positions: Sequence[int]) -> Tensor:
        """Return pictures as they were drawn, uint8 [n, C, R, R]."""
        pictures = np.stack([self._library.picture(position) for position in positions])
        return torch.from_numpy(pictures.reshape(*pictures.shape[:3], -1)).permute(0, 3, 1, 2)

    def shortlist(self, targets: Tensor, label: int) -> Tensor:
        """Return the positions [N, SHORTLIST] of the pictures of a class nearest to uint8 targets [N, C, R, R]."""
        here = (self.labels == label).nonzero()[:, 0]
        apart = torch.cdist(_thumbnails(targets.cpu()), self.thumbnails[here])
        return here[apart.topk(min(SHORTLIST, len(here)), largest=False).indices]


@torch.no_grad()
def find_starts(G: OctGenerator, objective: Objective, targets: Tensor, classes: Sequence[Sequence[int]],
                space: ClassSpace, *, library: LibraryStarts | None = None,
                encoder: Encoder | None = None) -> list[dict[int, Tensor]]:
    """Return for each scan, class -> w [w_dim] of the candidate with the smallest distance.

    Pictures of the library are read, not drawn again.

    Args:
        G: the generator.
        objective: of the scans.
        targets: the scans, uint8 [N, C, R, R].
        classes: for each scan, the classes to begin with.
        space: gives the class means.
        library: searched for the nearest pictures.
        encoder: guesses w from the scan.
    """
    found: list[dict[int, Tensor]] = [{} for _ in classes]
    for label in sorted({label for wanted in classes for label in wanted}):
        scans = torch.tensor([scan for scan, wanted in enumerate(classes) if label in wanted])
        mean = space.means[label].cpu()[None]                                       # [1, w_dim]
        image = G.synthesize(mean.to(G.device))
        guesses = None if encoder is None else encoder(targets[scans], torch.full((len(scans),), label)).cpu()
        near = None if library is None else library.shortlist(targets[scans], label)
        for row, scan in enumerate(scans.tolist()):
            choices, distances = [mean], [_distances(objective, image, scan)]
            if guesses is not None:
                choices.append(guesses[row:row + 1])
                distances.append(_distances(objective, G.synthesize(choices[-1].to(G.device)), scan))
            if library is not None and near is not None:
                choices.append(library.w[near[row]])
                distances.append(_distances(objective, to_unit(library.pixels(near[row].tolist())), scan))
            found[scan][label] = torch.cat(choices)[int(torch.cat(distances).argmin())]
    return found


def _distances(objective: Objective, images: Tensor, scan: int) -> Tensor:
    """Return the distances [n] of images [n, C, R, R] to a scan."""
    device = objective.features.device
    return torch.cat([objective(part.to(device), torch.full((len(part),), scan, device=device))
                      for part in torch.split(images, seen_at_once(images.shape[-1], device))])


def _thumbnails(pixels: Tensor) -> Tensor:
    return torch.cat([adaptive_avg_pool2d(to_unit(part), THUMBNAIL).flatten(1) for part in torch.split(pixels, 256)])
