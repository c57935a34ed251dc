"""What a model card is written from: the facts of a training run that is pushed."""

import dataclasses

from demega_jax.config import Config
from demega_jax.interop.card_scores import CardScore
from demega_jax.model.published import Member
from demega_jax.phonemes import PHONEMES

LIBRIBRAIN = "pnpl/LibriBrain"
NONCOMMERCIAL, FREE = "cc-by-nc-4.0", "apache-2.0"


@dataclasses.dataclass(frozen=True)
class Card:
    """The facts of a model card.

    repo: OWNER/NAME.  parameters: of one model.  trained_level: K of the training rows; None where unknown or mixed.
    simulated: whether the data say that they are; None where unknown.  dataset: its name on the hub, as whoever pushes
    the model gives it; None: not given.  licence: of the parameters, as the hub names it; None: by the data.
    origin: the repository and commit that the run was pulled from.
    """

    repo: str
    config: Config
    members: tuple[Member, ...]
    parameters: int
    scores: tuple[CardScore, ...]
    trained_level: int | None = None
    simulated: bool | None = None
    dataset: str | None = None
    licence: str | None = None
    origin: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """The name of the model, without its owner."""
        return self.repo.partition("/")[2]

    @property
    def level(self) -> str:
        """The grouping levels in words."""
        levels = self.config.data.levels or ((self.trained_level,) if self.trained_level else ())
        return "K = " + " and ".join(map(str, levels)) if levels else "of a level K that the run does not name"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.config.model.classes or ()

    @property
    def phonemes(self) -> bool:
        """Whether all classes are phonemes."""
        return set(self.classes) <= set(PHONEMES)

    @property
    def terms(self) -> str:
        """The licence of the parameters: by default without commercial use, unless the data are simulated."""
        return self.licence or (FREE if self.simulated else NONCOMMERCIAL)

    @property
    def like_libribrain(self) -> bool:
        """Whether the data are real and have the sensors and phonemes of LibriBrain, so that they are likely that."""
        return self.simulated is False and self.config.model.sensors == 306 and self.classes == PHONEMES

    @property
    def likely_dataset(self) -> str | None:
        """The dataset that is given, or else the one that the data are likely to be; None where there is no hint."""
        return self.dataset or (LIBRIBRAIN if self.like_libribrain else None)
