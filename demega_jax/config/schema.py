"""The configuration: frozen, validated sections.

Every key has a type, a default and, below it, its meaning. `page.py` prints them as a page; `load.py` reads the values
of keys from YAML and from `section.key=value`.
"""

from typing import Self

from pydantic import model_validator

from demega_jax.config.data import DataConfig
from demega_jax.config.model import IPA_WEIGHT, LossConfig, ModelConfig
from demega_jax.config.section import Section, unfit
from demega_jax.config.stack import StackConfig
from demega_jax.config.train import OptimConfig, ReportConfig, TrainConfig


class Config(Section):
    """The whole configuration: a section for each subject."""

    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    optim: OptimConfig = OptimConfig()
    report: ReportConfig = ReportConfig()
    stack: StackConfig = StackConfig()

    def with_ipa(self) -> "Config":
        """This configuration with numbers for model.ipa_width and loss.ipa_weight, once model.classes are set.

        UserError: loss.ipa_weight was set, and there is no head, as the classes are not phonemes.
        """
        model, weight = self.model.with_ipa(), self.loss.ipa_weight
        if weight is None:
            weight = IPA_WEIGHT if model.ipa_width else 0.0
        elif weight and not model.ipa_width:
            from demega_jax.phonemes import (
                feature_table,
            )  # imports numpy, for which errors of the command line do not wait

            feature_table(model.classes or ())  # raises the error that names the classes
        return self.model_copy(update={"model": model, "loss": self.loss.model_copy(update={"ipa_weight": weight})})

    @model_validator(mode="after")
    def _feed_lies_on_the_devices(self) -> Self:
        for key, value in (("members", self.train.members), ("steps_per_dispatch", self.train.steps_per_dispatch)):
            if value > 1 and self.data.feed == "stream":
                came = f"train.{key}={value} needs a feed on the devices, and data.feed is stream"
                raise unfit(came, "data.feed=resident or regroup", f"set data.feed=resident, or train.{key}=1")
        if self.train.members > 1 and self.report.wandb:
            came = f"report.wandb is true, which logs one model, beside train.members={self.train.members}"
            raise unfit(came, "a logger of several models", "set report.wandb=false report.tensorboard=true")
        return self

    @model_validator(mode="after")
    def _heads_have_losses(self) -> Self:
        if self.loss.contrastive_weight and not self.model.projection_width:
            came = "loss.contrastive_weight is above 0, but model.projection_width is 0: there is no projection head"
            raise unfit(came, "a projection head", "set model.projection_width=128, or loss.contrastive_weight=0.0")
        if self.loss.ipa_weight and self.model.ipa_width == 0:
            came = "loss.ipa_weight is above 0, but model.ipa_width is 0: there is no IPA head"
            raise unfit(came, "an IPA head for this loss", "set model.ipa_width=64, or loss.ipa_weight=0.0")
        if self.optim.swa_learning_rate and self.train.averaging != "swa":
            came = f"optim.swa_learning_rate is set, but train.averaging is {self.train.averaging}"
            raise unfit(came, "averaging=swa", "set train.averaging=swa, or leave optim.swa_learning_rate out")
        return self
