"""Where a projection begins: the best of the class mean, the nearest pictures of a library, and an encoder's guess."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from stylegan_oct.latent.classspace import ClassSpace
from stylegan_oct.latent.library import Library
from stylegan_oct.latent.projection.encoder import Encoder
from stylegan_oct.latent.projection.objective import Objective
from stylegan_oct.model import OctGenerator
from torch_utils.images import to_unit

SHORTLIST = 16   # pictures of a class that are looked at closely, the nearest by thumbnails
THUMBNAIL = 16   # pixels; a search over thousands in milliseconds


class LibraryStarts:
    """The pictures of a library, ready to be searched for what resembles a scan.

    Args:
        library: drawn by the generator that is projected into.
    """

    def __init__(self, library: Library) -> None:
        pictures = np.stack([library.picture(position) for position in range(len(library))])
        self.pixels = torch.from_numpy(pictures.reshape(*pictures.shape[:3], -1)).permute(0, 3, 1, 2)   # [N, C, R, R]
        self.w = library.w.to(torch.float32)
        self.labels = torch.from_numpy(library.labels)
        self.thumbnails = _thumbnails(self.pixels)

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
        candidates = [space.means[label].cpu().expand(len(scans), 1, -1)]
        if encoder is not None:
            candidates.append(encoder(targets[scans], torch.full((len(scans),), label))[:, None].cpu())
        if library is not None:
            candidates.append(library.w[library.shortlist(targets[scans], label)])
        w = torch.cat(candidates, dim=1)                                            # [n, candidates, w_dim]
        for scan, choices in zip(scans.tolist(), w, strict=True):
            found[scan][label] = choices[int(_distances(G, objective, choices, scan).argmin())]
    return found


def _distances(G: OctGenerator, objective: Objective, w: Tensor, scan: int) -> Tensor:
    which = torch.full((len(w),), scan, device=G.device)
    return objective(G.synthesize(w.to(G.device)), which)


def _thumbnails(pixels: Tensor) -> Tensor:
    return torch.cat([adaptive_avg_pool2d(to_unit(part), THUMBNAIL).flatten(1) for part in torch.split(pixels, 256)])
