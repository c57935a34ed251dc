"""The configuration: files, overrides, what cannot be, and what a resumed run may change."""

from pathlib import Path

import pytest
from helpers import ROOT
from helpers.errors import refused

from demega_jax.config import AugmentConfig, Config, ModelConfig
from demega_jax.config.load import differing_keys, load_config, override, parse_overrides, to_yaml
from demega_jax.files import parse_bytes
from demega_jax.training.run import resumed_config

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.fixture
def read(tmp_path):
    """`read(text, *overrides)` is the configuration in a file of that text."""

    def load(text: str, *overrides: str) -> Config:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return load_config(path, overrides)

    return load


def changed(**changes) -> Config:
    """The defaults with `section__key` changed."""
    return override(Config(), {key.replace("__", "."): value for key, value in changes.items()}, "test")


def test_yaml_round_trip(read):
    odd = changed(
        model__classes=["aa", "no", "1e3", "null"],
        model__position_terms=[],
        model__sensors=306,
        train__epochs=7,
        data__path="a: #b",
        optim__learning_rate=3e-7,
        optim__frozen=["final_norm", "encoder.layers.0"],
        train__averaging="swa",
        optim__swa_learning_rate=1e-22,
        model__stem_kernel_sizes=[4, 1],
    )
    for config in (Config(), odd):
        assert read(to_yaml(config)) == config
    assert odd.model.classes == ("aa", "no", "1e3", "null")


def test_an_empty_file_has_the_defaults(read):
    assert read("") == read("# nothing\n") == Config()


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E-3", 1e-3), ("2.e-4", 2e-4), (".5e-2", 5e-3), ("0.25", 0.25), ("1", 1.0)]
)
def test_floats_of_yaml(read, text, value):
    got = read(f"optim:\n  learning_rate: {text}\n").optim.learning_rate
    assert (got, type(got)) == (value, float)
    assert read("", f"optim.learning_rate={text}").optim.learning_rate == value


def test_overrides_come_after_the_file(read):
    config = read(
        "train: {batch_size: 32, seed: 5}\n",
        "train.batch_size=64",
        "model.norm=post",
        "model.position_terms=[c2p]",
        "train.epochs=null",
        "data.path=a=b",
    )
    assert differing_keys(config, Config()) == {
        "train.batch_size": (64, 512),
        "train.seed": (5, 777),
        "model.norm": ("post", "pre"),
        "model.position_terms": (("c2p",), ("c2p", "p2c")),
        "data.path": ("a=b", None),
    }


def test_an_override_has_a_section_a_key_and_a_value():
    for text in ("train.seed", "seed=3"):
        with refused("section.key=value"):
            parse_overrides([text])


@pytest.mark.parametrize(
    ("text", "unknown", "near"),
    [
        ("modle: {}", "modle", "model"),
        ("train: {batchsize: 3}", "train.batchsize", "train.batch_size"),
        ("model: {learning_rate: 1}", "model.learning_rate", "optim.learning_rate"),
        ("loss: {focal_gama: 1.0}", "loss.focal_gama", "loss.focal_gamma"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(read, text, unknown, near):
    with refused("unknown", unknown, near):
        read(text)


def test_an_unknown_override_is_refused_with_the_nearest(read):
    with refused("command line", "unknown", "train.step", "train.steps"):
        read("", "train.step=3")


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("model: {width: '8'}", ["model.width", "8", "integer"]),
        ("train: {seed: 1.5}", ["train.seed", "1.5", "integer"]),
        ("train: {epochs: true}", ["train.epochs", "true", "integer"]),
        ("train: {deterministic: 1}", ["train.deterministic", "1", "true or false"]),
        ("train: {batch_size: 0}", ["train.batch_size", "0"]),
        ("model: {dropout: 1.0}", ["model.dropout", "1.0", "1"]),
        ("model: {norm: mid}", ["model.norm", "mid", "pre", "post"]),
        ("loss: {ipa_weight: .nan}", ["loss.ipa_weight", "nan", "finite"]),
        ("optim: {learning_rate: fast}", ["optim.learning_rate", "fast", "number"]),
        ("optim: {frozen: final_norm}", ["optim.frozen", "final_norm"]),
        ("model:", ["model"]),
        ("[1, 2]", ["list", "sections"]),
        ("model: {width: 8", ["line 2", "column 1"]),
    ],
)
def test_wrong_types_are_refused(read, text, facts):
    with refused(*facts):
        read(text + "\n")


IMPOSSIBLE = {
    "heads": (dict(model__width=12, model__heads=5), "model", "heads", "[3, 4, 6]"),
    "buckets": (dict(model__num_buckets=7), "num_buckets=7", "even", "8"),
    "distance": (dict(model__num_buckets=32, model__max_distance=17), "max_distance=17", "18"),
    "accumulate": (dict(train__batch_size=10, train__accumulate=4), "batch_size=8"),
    "accumulate more than rows": (dict(train__batch_size=2, train__accumulate=4), "batch_size=4"),
    "length": (dict(train__epochs=3, train__steps=4), "epochs=3", "steps=4"),
    "classifier": (
        dict(model__classifier="ipa_dot", model__ipa_width=0, loss__ipa_weight=0.0),
        "ipa_width=64",
    ),
    "contrastive": (dict(model__projection_width=0), "model.projection_width=128"),
    "ipa": (dict(model__ipa_width=0, loss__ipa_weight=0.2), "model.ipa_width=64", "loss.ipa_weight=0"),
    "classes": (dict(model__classes=["aa", "b", "aa"]), "classes", "two", "different"),
    "one class": (dict(model__classes=["aa"]), "classes", "two", "different"),
    "terms": (dict(model__position_terms=["c2p", "c2p"]), "position_terms"),
    "swa": (dict(optim__swa_learning_rate=1e-3), "train.averaging=swa"),
    "memory": (dict(data__memory="much"), "4G", "512M", "1.5G"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_combinations_say_what_fits(case):
    changes, *facts = IMPOSSIBLE[case]
    with refused(*facts):
        changed(**changes)


def test_what_fits_next_to_the_impossible():
    """The ways out that the messages name."""
    changed(model__width=12, model__heads=6)
    changed(model__num_buckets=32, model__max_distance=18)
    changed(model__num_buckets=0, model__max_distance=1)
    changed(model__projection_width=0, loss__contrastive_weight=0.0)
    changed(model__ipa_width=0, loss__ipa_weight=0.0)
    changed(model__encoder="lstm", model__width=12, model__heads=5)


def test_data_fill_in_the_model():
    found = dict(sensors=12, time_points=25, classes=["aa", "b"])
    filled = ModelConfig().for_data(**found)
    assert (filled.sensors, filled.time_points, filled.classes) == (12, 25, ("aa", "b"))
    assert filled.for_data(**found) == filled
    for key, value, facts in (
        ("sensors", 13, ["12", "13"]),
        ("time_points", 24, ["25", "24"]),
        ("classes", ["aa", "b", "d"], ["2 classes", "3 classes"]),
    ):
        with refused(*facts, where=f"model.{key}"):
            filled.for_data(**found | {key: value})


def test_classes_that_are_no_phonemes_have_no_ipa_head_unless_it_is_set():
    def of(classes: tuple[str, ...], **changes) -> tuple[int | None, float | None]:
        config = changed(model__classes=list(classes), model__embedding_width=48, **changes).with_ipa()
        return config.model.ipa_width, config.loss.ipa_weight

    assert of(("aa", "b")) == (24, 0.2) and of(("aa", "cat")) == (0, 0.0)
    assert of(("aa", "b"), model__ipa_width=7, loss__ipa_weight=0.5) == (7, 0.5)
    assert of(("aa", "cat"), loss__ipa_weight=0.0) == (0, 0.0)
    with refused("cat", "ipa_weight=0", where="model.classes"):
        of(("aa", "cat"), loss__ipa_weight=0.2)


def test_augmentation_takes_rate_and_magnetometers_from_the_data():
    usual = AugmentConfig()
    known = usual.for_data(6, 500.0, (0, 4))
    assert (known.sample_rate, known.magnetometers) == (500.0, (0, 4))
    assert known.for_data(6, 500.0, (0, 4)) == known
    for sensors, magnetometers, expected in (
        (306, None, "thirds"),
        (306, tuple(range(2, 306, 3)), "thirds"),
        (6, None, "none"),
        (6, (), "none"),
        (6, tuple(range(6)), "none"),
        (6, (2, 5), "thirds"),
    ):
        filled = usual.for_data(sensors, None, magnetometers)
        assert (filled.sample_rate, filled.magnetometers) == (250.0, expected)
    with refused("250 Hz", "500 Hz", where="data.augment.sample_rate"):
        AugmentConfig(sample_rate=250.0).for_data(6, 500.0, None)
    with refused("sensor 6", where="data.augment.magnetometers"):
        AugmentConfig(magnetometers=(1, 6)).for_data(6, None, None)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations(path):
    config = load_config(path)
    assert differing_keys(config, Config()), "a configuration that changes nothing says nothing"


def test_a_length_in_steps_takes_the_place_of_one_in_epochs():
    """And the reverse; both at once still fit no run."""
    config = override(Config(), {"train.epochs": 30}, "command line")
    train = override(config, {"train.steps": 12}, "command line").train
    assert (train.epochs, train.steps) == (None, 12)
    train = override(override(config, {"train.steps": 12}, "command line"), {"train.epochs": 2}, "command line").train
    assert (train.epochs, train.steps) == (2, None)
    with refused("epochs=3", "steps=12"):
        override(config, {"train.steps": 12, "train.epochs": 3}, "command line")


def test_shipped_configurations_are_all_there():
    cards = ["gpu_16gb", "gpu_24gb", "grouped_100", "grouped_20", "grouped_5"]
    assert [path.stem for path in CONFIGS] == ["default", "demo", *cards, "leaderboard", "original", "regroup", "tiny"]


def test_original_configuration_is_the_published_one():
    optim = load_config(next(path for path in CONFIGS if path.stem == "original")).optim
    assert (optim.schedule, optim.schedule_length, optim.warmup * optim.schedule_length) == ("per_epoch", 200, 5.0)
    assert optim.frozen == ("final_norm",)


@pytest.mark.parametrize(
    ("text", "count"),
    [("4G", 4 * 2**30), ("512M", 512 * 2**20), ("1.5GiB", 3 * 2**29), ("64k", 65536), (" 7 B", 7), ("2T", 2**41)],
)
def test_bytes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "G", "4X", "-1G", "1 2", "4GG"])
def test_no_bytes(text):
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


def saved() -> Config:
    """What a run's folder holds: filled in from the data, with the length of its schedule."""
    config = changed(train__epochs=3, train__seed=5)
    model = config.model.for_data(sensors=4, time_points=9, classes=("aa", "b"))
    optim = config.optim.model_copy(update={"schedule_length": 30})
    return config.model_copy(update={"model": model, "optim": optim})


def test_a_resumed_run_keeps_what_was_filled_in():
    assert resumed_config(saved(), changed(train__epochs=3, train__seed=5), Path("run")) == saved()


def test_a_resumed_run_may_change_its_cadence_and_end():
    asked = changed(train__steps=90, train__seed=5, train__log_every=3, train__eval_every=7, data__memory="1G")
    got = resumed_config(saved(), asked, Path("run"))
    assert differing_keys(got, saved()) == {
        "train.steps": (90, None),
        "train.epochs": (None, 3),
        "train.log_every": (3, 50),
        "train.eval_every": (7, None),
        "data.memory": ("1G", "4G"),
    }


@pytest.mark.parametrize(
    ("key", "value", "was"), [("train.seed", 6, 5), ("optim.learning_rate", 1e-3, 1e-4), ("model.sensors", 5, 4)]
)
def test_a_resumed_run_refuses_other_changes(key, value, was):
    asked = override(changed(train__epochs=3, train__seed=5), {key: value}, "test")
    with refused("run", key, was, value):
        resumed_config(saved(), asked, Path("run"))
