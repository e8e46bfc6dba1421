"""The mapping network, z and class -> w, and the running means of w that truncation pulls towards."""

from typing import Literal

import torch
from torch import Tensor, nn

from stylegan_oct.networks.layers import FullyConnectedLayer, label_vectors, normalize_second_moment
from torch_utils.checks import assert_shape

Center = Literal["global", "class"]

W_AVG_DECAY = 0.995    # a batch
LR_MULTIPLIER = 0.01


class MappingNetwork(nn.Module):
    """Fully connected layers from latents and labels to w.

    Args:
        z_dim: size of z; 0 maps the label alone, as the discriminator does.
        c_dim: number of classes; 0 is unconditional.
        w_dim: size of w and of the hidden layers.
        num_ws: how many layers get a copy of w; None returns [N, w_dim] and keeps no means.
        num_layers: fully connected layers after the embedding of the label.
    """

    w_avg: Tensor
    w_avg_class: Tensor

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, *, num_ws: int | None, num_layers: int) -> None:
        super().__init__()
        assert z_dim > 0 or c_dim > 0
        self.z_dim, self.c_dim, self.w_dim, self.num_ws, self.num_layers = z_dim, c_dim, w_dim, num_ws, num_layers
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, w_dim)
        sizes = [z_dim + (w_dim if c_dim > 0 else 0)] + [w_dim] * num_layers
        for index in range(num_layers):
            self.add_module(f"fc{index}", FullyConnectedLayer(sizes[index], sizes[index + 1], activation="lrelu",
                                                              lr_multiplier=LR_MULTIPLIER))
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))
            if c_dim > 0:
                self.register_buffer("w_avg_class", torch.zeros(c_dim, w_dim))

    def forward(self, z: Tensor | None, c: Tensor | None, *, psi: float = 1.0, cutoff: int | None = None,
                center: Center = "global") -> Tensor:
        """Return w, [N, num_ws, w_dim], or [N, w_dim] where num_ws is None.

        Args:
            z: [N, z_dim], standard normal; None where z_dim is 0.
            c: class indices [N] or one-hot [N, c_dim]; ignored where c_dim is 0.
            psi: truncation: w_mean + psi * (w - w_mean) (Karras et al. 2019, "A Style-Based Generator", appendix B).
            cutoff: truncate the first layers alone; None all.
            center: w_mean is the mean of all w or of those of the class; mixed labels take the mixed mean.
        """
        parts = []
        if self.z_dim > 0:
            assert z is not None
            assert_shape(z, [None, self.z_dim])
            parts.append(normalize_second_moment(z.to(torch.float32)))
        if self.c_dim > 0:
            assert c is not None, f"this network has {self.c_dim} classes; it needs a label"
            c = label_vectors(c, self.c_dim)
            parts.append(normalize_second_moment(self.embed(c)))
        x = torch.cat(parts, dim=1)
        for index in range(self.num_layers):
            x = self.get_submodule(f"fc{index}")(x)
        if self.num_ws is None:
            return x                                          # [N, w_dim]
        ws = x[:, None].expand(-1, self.num_ws, -1)           # [N, num_ws, w_dim]
        return ws if psi == 1 else self._truncate(ws, c, psi, cutoff, center)

    def _truncate(self, ws: Tensor, c: Tensor | None, psi: float, cutoff: int | None, center: Center) -> Tensor:
        assert center == "global" or self.c_dim > 0, "there is no class mean without classes"
        mean = self.w_avg.expand(len(ws), -1) if center == "global" or c is None else c @ self.w_avg_class  # [N, w_dim]
        near = mean[:, None].lerp(ws[:, :cutoff], psi)
        return near if cutoff is None else torch.cat([near, ws[:, cutoff:]], dim=1)

    @torch.no_grad()
    def w_sums(self, ws: Tensor, c: Tensor | None) -> Tensor:
        """Return sums and counts of the first layer's w, which add up over parts of a batch.

        Args:
            ws: [N, num_ws, w_dim].
            c: class indices [N] or one-hot [N, c_dim]; ignored where c_dim is 0.
        Returns:
            [1 + c_dim, w_dim + 1], float64: a row for all, then one a class; the last column counts.
        """
        w = ws[:, 0].double()
        rows = torch.cat([w, w.new_ones(len(w), 1)], dim=1)             # [N, w_dim + 1]
        sums = rows.sum(dim=0, keepdim=True)
        if self.c_dim == 0:
            return sums
        assert c is not None
        return torch.cat([sums, label_vectors(c, self.c_dim).to(rows).t() @ rows])

    @torch.no_grad()
    def update_w_avg(self, sums: Tensor) -> None:
        """Move the mean of w, and those of the classes that occurred, towards the batch that `w_sums` describes."""
        counts = sums[:, -1:]
        means = (sums[:, :-1] / counts.clamp(min=1)).to(self.w_avg.dtype)
        self.w_avg.lerp_(means[0], 1 - W_AVG_DECAY)
        if self.c_dim > 0:
            moved = self.w_avg_class.lerp(means[1:], 1 - W_AVG_DECAY)
            self.w_avg_class.copy_(torch.where(counts[1:] > 0, moved, self.w_avg_class))
