"""The dense CRF as the last layer of a network, trained with it (Zheng et al. 2015, "CRF as RNN")."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from segpipe.crf.kernels import separable
from segpipe.crf.lattice import Lattice, barycentric, bilateral_features


class DenseCRFLayer(nn.Module):
    """Mean-field steps, differentiable in the logits, both weights and all three widths.

    What must stay positive is learned as its logarithm; widths end at 0.3 pixels and at a thousandth of
    the image's range of values. The lattice's vertices are constants of a
    step, the barycentric weights are not: that is where the widths of the bilateral kernel get
    their gradient.

    Args:
        pos_w, bi_w, pos_xy_std, bi_xy_std, bi_rgb_std: as in `dense_crf`, to begin with.
        iterations: steps, the same in training and after; CRF as RNN trains with 5.
        num_classes: where given, a (C, C) compatibility is learned too, Potts to begin with.
    """

    def __init__(
        self,
        *,
        pos_w: float = 1.0,
        pos_xy_std: float = 1.0,
        bi_w: float = 1.0,
        bi_xy_std: float = 30.0,
        bi_rgb_std: float = 13.0,
        iterations: int = 5,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        widths = {"pos_xy_std": pos_xy_std, "bi_xy_std": bi_xy_std, "bi_rgb_std": bi_rgb_std}
        for name, value in {"pos_w": pos_w, "bi_w": bi_w, **widths}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, wanted a finite number > 0")
        if iterations < 1:
            raise ValueError(f"iterations is {iterations}, wanted at least 1")
        self.iterations = iterations
        self.log_weights = nn.Parameter(torch.tensor([pos_w, bi_w]).log())
        self.log_widths = nn.Parameter(torch.tensor(list(widths.values())).log())
        self.compatibility = None if num_classes is None else nn.Parameter(1 - torch.eye(num_classes))

    def forward(self, logits: Tensor, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Refined logits (N, C, H, W); their softmax is Q of the last step.

        Args:
            logits: (N, C, H, W).
            image: (N, 3, H, W), any real type, in the units of bi_rgb_std; no gradient flows into it.
            valid: (N, H, W) bool; where False, as in padding, a pixel neither sends nor receives.

        Raises:
            ValueError: shapes do not match.
        """
        if logits.ndim != 4:
            raise ValueError(f"logits are {tuple(logits.shape)}, wanted (N, C, H, W)")
        n, c, height, width = logits.shape
        if tuple(image.shape) != (n, 3, height, width):
            raise ValueError(f"image is {tuple(image.shape)}, wanted {(n, 3, height, width)} as the logits")
        if valid is not None and tuple(valid.shape) != (n, height, width):
            raise ValueError(f"valid is {tuple(valid.shape)}, wanted {(n, height, width)} as the logits")
        if self.compatibility is not None and len(self.compatibility) != c:
            raise ValueError(f"logits have {c} classes, wanted the {len(self.compatibility)} of num_classes")
        with torch.autocast(logits.device.type, enabled=False):
            dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
            rows = logits.to(dtype).permute(0, 2, 3, 1).reshape(n, -1, c)
            refined = [
                self._refine(rows[i], image[i].detach().to(dtype), None if valid is None else valid[i].reshape(-1))
                for i in range(n)
            ]
        return torch.stack(refined).reshape(n, height, width, c).permute(0, 3, 1, 2)

    def _refine(self, unary: Tensor, image: Tensor, valid: Tensor | None) -> Tensor:
        """One image: (P, C) logits to refined ones; not finite where a width or a seen colour is not."""
        rows = None if valid is None else torch.nonzero(valid)[:, 0]
        if rows is not None and not len(rows):
            return unary
        pos_w, bi_w = self.log_weights.to(unary.dtype).exp()
        pos_xy_std, bi_xy_std, bi_rgb_std = self.log_widths.to(unary.dtype).exp()
        colors = image.reshape(3, -1)
        if rows is not None and valid is not None:
            colors = torch.where(valid, colors, colors[:, rows].amin(1, keepdim=True))
        least = (colors.amax() - colors.amin()) / 1000
        features = bilateral_features(
            colors.T.reshape(*image.shape[1:], 3),
            bi_xy_std.clamp(min=0.3),
            bi_rgb_std.clamp(min=least.clamp(min=1e-3)),
            unary.dtype,
        )
        features = features if rows is None else features[rows]  # others would add vertices that blur passes through
        if not bool(torch.isfinite(features).all()):
            return unary * torch.nan  # for the training loop to stop at
        lattice, weights = Lattice(features.detach()), barycentric(features)

        def bilateral(q: Tensor) -> Tensor:
            if rows is None:
                return lattice.differentiable(q, weights)
            return torch.zeros_like(q).index_copy(0, rows, lattice.differentiable(q[rows], weights))

        spatial = separable(pos_xy_std.clamp(min=0.3), (image.shape[1], image.shape[2]))
        seen = torch.ones_like(unary[:, :1]) if valid is None else valid.to(unary.dtype)[:, None]
        terms = []
        for weight, kernel in ((pos_w, spatial), (bi_w, bilateral)):
            sums = torch.where(seen > 0, kernel(seen), 1.0)  # who is not seen has no sum, and needs none
            terms.append((weight, kernel, sums.rsqrt() * seen))
        given = torch.where(seen > 0, unary, 0.0)
        logits = given
        for _ in range(self.iterations):
            q = logits.softmax(1)
            message = sum(weight * root * kernel(q * root) for weight, kernel, root in terms)
            if self.compatibility is not None:
                message = -message @ self.compatibility.to(unary.dtype).T
            logits = given + message
        return torch.where(seen > 0, logits, unary)
