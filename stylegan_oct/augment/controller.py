"""The controller that adapts the strength of augmentation to how far the discriminator overfits (ADA, section 3)."""


class AdaController:
    """Moves p so that r_t = E[sign(D(real))] stays at a target.

    r_t is 0 where D cannot tell reals from fakes and 1 where it is sure of every real image: overfitting. Karras et al.
    2020, "Training Generative Adversarial Networks with Limited Data", Eq. 1 (r_t) and section 3.
    """

    def __init__(self, *, target: float, ada_nimg: int, p: float, p_max: float) -> None:
        """Start at a strength.

        Args:
            target: of r_t; the paper's is 0.6.
            ada_nimg: images over which p moves by 1 if it moves one way all along.
            p: strength at the start, 0..1; one above `p_max` stays until the first move.
            p_max: greatest strength that a move leads to.
        """
        assert ada_nimg > 0, ada_nimg
        self.target, self.ada_nimg, self.p, self.p_max = target, ada_nimg, p, p_max

    def update(self, sign_mean: float, nimg: int) -> float:
        """Return the new p: a step of nimg / ada_nimg up if r_t is above the target, down if below, none if equal.

        Args:
            sign_mean: r_t, the mean sign of D on the augmented reals since the last update, -1..1.
            nimg: images that these updates stand for.
        """
        direction = (sign_mean > self.target) - (sign_mean < self.target)
        self.p = min(max(self.p + direction * nimg / self.ada_nimg, 0.0), self.p_max)
        return self.p

    def state_dict(self) -> dict[str, float]:
        """Return what changes in training, for JSON; floats survive it bit by bit."""
        return {"p": self.p}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a `state_dict`.

        Raises:
            KeyError: p is missing.
        """
        self.p = float(state["p"])
