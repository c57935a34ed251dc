"""The published system's hyperparameters and our configuration, in both directions."""

from collections.abc import Mapping, Sequence

import numpy as np

from demega_jax.config import Config
from demega_jax.config.load import flat_keys, override
from demega_jax.errors import UserError, listed, warn
from demega_jax.phonemes import PHONEMES

Settings = dict[str, object]

# Hyperparameters that are a key of ours under another name.
KEYS = {
    "meg_channels": "model.sensors",
    "time_points": "model.time_points",
    "hidden_dim": "model.width",
    "num_conformers": "model.layers",
    "num_heads": "model.heads",
    "norm_type": "model.norm",
    "dropout_rate": "model.dropout",
    "embedding_dim": "model.embedding_width",
    "projection_dim": "model.projection_width",
    "ipa_hidden_dim": "model.ipa_width",
    "loss_type": "loss.class_loss",
    "focal_gamma": "loss.focal_gamma",
    "label_smoothing": "loss.label_smoothing",
    "temperature": "loss.class_weight_temperature",
    "contrastive_weight": "loss.contrastive_weight",
    "contrastive_temperature": "loss.contrastive_temperature",
    "ipa_feature_weight": "loss.ipa_weight",
    "learning_rate": "optim.learning_rate",
    "classifier_lr_multiplier": "optim.head_lr_multiplier",
    "weight_decay": "optim.weight_decay",
    "seed": "train.seed",
}
REQUIRED = ("meg_channels", "time_points", "vocab_size")
# What the functions below read, and what has no influence on parameters, losses or the learning rate.
OTHERS = {
    "vocab_size",
    "use_conformer",
    "use_class_weights",
    "use_contrastive",
    "use_ipa_features",
    "warmup_epochs",
    "total_epochs",
    "use_ipa_similarity_classification",
    "ipa_similarity_metric",
    "metric_type",
    "use_tta",
    "tta_num_augmentations",
    "tta_temporal_shifts",
    "tta_channel_dropout",
    "tta_noise_std",
    "tta_weight_original",
}
# What the published system does without a hyperparameter that says so (configs/original.yaml).
FIXED: Settings = {
    "model.input_norm": "median_iqr",
    "model.pool": "flatten",
    "model.heads": 4,
    "model.stem_kernel_sizes": (5, 3),
    "model.kernel_size": 3,
    "model.feedforward_factor": 2,
    "model.num_buckets": 32,
    "model.max_distance": 128,
    "model.position_terms": ("c2p", "p2c"),
    "model.share_key": False,
    "model.position_init": 1.0,
    "model.ipa_width": 64,
    "loss.ipa_weight": 0.2,
    "train.matmul_precision": "highest",
    "optim.clip": 1.0,
    "optim.schedule": "per_epoch",
}
COMPUTED = [key for key in FIXED if key.startswith("model.") and key != "model.position_init"]
EPOCHS, WARMUP_EPOCHS = 200, 5  # of the schedule, unless hyperparameters say otherwise


def config_from(
    theirs: Mapping[str, object], tensors: Mapping[str, np.ndarray], changes: Settings, where: object
) -> Config:
    """The configuration of a model of the published system.

    theirs: its hyperparameters.  tensors: its state dict, which says what no hyperparameter does.  changes: keys of
    ours that win.  UserError about `where`: a hyperparameter is missing, wrong, or of a model that is not ours.
    """
    if lacking := [name for name in REQUIRED if name not in theirs]:
        came, wanted = f"no hyperparameter {', '.join(lacking)}", "the hyperparameters of the published system"
        raise UserError(where, came, wanted, "name a checkpoint that Lightning wrote during its training")
    if theirs.get("use_rotary"):
        came, wanted = "use_rotary is true: a model with rotary positions", "disentangled attention"
        raise UserError(where, came, wanted, "train this model here with `demega-jax train` instead")
    unknown = sorted(set(theirs) - set(KEYS) - OTHERS - {"use_rotary", "enable_aug"})
    left_out = unknown + (["enable_aug"] if theirs.get("enable_aug") else [])
    if left_out:
        warn(f"{where}: {len(left_out)} hyperparameters have no counterpart and are left out ({listed(left_out)})")
    same = {key: theirs[name] for name, key in KEYS.items() if theirs.get(name) is not None}
    settings = FIXED | _seen_in(tensors) | same | _derived(theirs, tensors, where)
    if "model.classes" not in changes:
        settings["model.classes"] = class_names(theirs["vocab_size"], where)
    return override(Config(), settings | changes, str(where))


def class_names(count: object, where: object) -> tuple[str, ...]:
    """The 39 phonemes, or class_0, class_1 and so on for another number of classes."""
    if not isinstance(count, int) or count < 2:
        raise UserError(where, f"vocab_size is {count!r}", "a number of classes", "name another checkpoint")
    return PHONEMES if count == len(PHONEMES) else tuple(f"class_{number}" for number in range(count))


def _derived(theirs: Mapping[str, object], tensors: Mapping[str, np.ndarray], where: object) -> Settings:
    """Settings for which one hyperparameter or more stand, or for which a module is there or not."""
    lstm = theirs.get("use_conformer", True) is False
    settings: Settings = {"model.encoder": "lstm"} if lstm else {"optim.frozen": ("final_norm",)}
    if theirs.get("use_ipa_similarity_classification"):
        settings["model.classifier"] = f"ipa_{theirs.get('ipa_similarity_metric', 'cosine')}"
    if theirs.get("use_class_weights"):
        settings["loss.class_weights"] = "temperature"
    for head, module, on, weight in (
        ("model.projection_width", "projection_head.", "use_contrastive", "loss.contrastive_weight"),
        ("model.ipa_width", "ipa_predictor.", "use_ipa_features", "loss.ipa_weight"),
    ):
        absent = not any(name.startswith(module) for name in tensors)
        off = theirs.get(on, True) is False
        settings |= {head: 0} if absent and off else {}
        settings |= {weight: 0.0} if off else {}
    total, warm = theirs.get("total_epochs", EPOCHS), theirs.get("warmup_epochs", WARMUP_EPOCHS)
    if not isinstance(total, int) or not isinstance(warm, int) or not 0 <= warm < total:
        came, wanted = f"warmup_epochs is {warm!r} and total_epochs {total!r}", "fewer epochs of warm-up than in all"
        raise UserError(where, came, wanted, "name another checkpoint")
    return settings | {"optim.schedule_length": total, "optim.warmup": warm / total}


def _seen_in(tensors: Mapping[str, np.ndarray]) -> Settings:
    """What the attention of the first layer shows: its position terms, and the rows of its position table."""
    attention = "meg_encoder.0.attention."
    if not any(name.startswith(attention) for name in tensors):
        return {}
    table = tensors.get(f"{attention}rel_embeddings.weight")
    if table is None:
        return {"model.position_terms": ()}
    own = {"c2p": f"{attention}pos_key_proj.weight", "p2c": f"{attention}pos_query_proj.weight"}
    terms = tuple(term for term, name in own.items() if name in tensors)
    found: Settings = {"model.num_buckets": len(table) // 2}
    return found | ({"model.position_terms": terms} if terms else {"model.share_key": True})


def hyperparameters_of(config: Config) -> Settings:
    """The hyperparameters of the published system with which it would make and train this model, as far as it can."""
    values = _flat(config)
    model, loss, optim = config.model, config.loss, config.optim
    assert model.classes is not None  # filled in before there are parameters
    length = optim.schedule_length or EPOCHS
    similar = model.classifier != "linear"
    return {name: values[key] for name, key in KEYS.items() if name not in ("num_heads", "seed")} | {
        "vocab_size": len(model.classes),
        "use_conformer": model.encoder == "conformer",
        "use_class_weights": loss.class_weights != "none",
        "use_contrastive": bool(loss.contrastive_weight),
        "use_ipa_features": bool(loss.ipa_weight),
        "use_ipa_similarity_classification": similar,
        "ipa_similarity_metric": model.classifier.removeprefix("ipa_") if similar else "cosine",
        "warmup_epochs": round(optim.warmup * length),
        "total_epochs": length,
    }


def not_computed_there(config: Config) -> list[str]:
    """Our settings that change what a model computes and that the published system has no hyperparameter for."""
    values = _flat(config)
    keys = [key for key in COMPUTED if config.model.encoder == "conformer" or key == "model.input_norm"]
    return [f"{key}={_shown(values[key])}" for key in keys if values[key] != FIXED[key]]


def _flat(config: Config) -> Settings:
    sections: Mapping[str, Mapping[str, object]] = config.model_dump()
    two = [key.split(".") for key in flat_keys() if key.count(".") == 1]
    return {f"{section}.{key}": sections[section][key] for section, key in two}


def _shown(value: object) -> object:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
