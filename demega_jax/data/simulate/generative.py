"""A model of phoneme responses and noise in MEG that can be sampled, and whose best classifier is known exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from demega_jax.phonemes import FEATURES, PHONEMES, class_frequencies, feature_table

SAMPLE_RATE = 250.0  # Hz, of the recordings that this imitates
SESSIONS = 10
# Whitened distance between the templates of two classes in one trial, median over the pairs. Only this number sets how
# hard the task is: distances grow with sqrt(K), and the best classifier's macro-F1 on all 39 phonemes rises from about
# 0.35 at K = 5 to 0.96 at K = 100, where it confuses only phonemes that have the same features.
MEDIAN_DISTANCE = 1.75
# Whitened size of the response to every phoneme, and of the part of one phoneme alone; that of a feature is 1.
COMMON_PART, PHONEME_PART = 2.0, 0.12
WHITE_SHARE = 0.3  # of a sensor's noise variance; the rest comes from sources that many sensors see
GAIN_SPREAD, OFFSET_SPREAD = 0.15, 0.2

_HELMET, _GRADIOMETER_ARM = 0.12, 0.0084  # m: radius of the sensor shell; half the distance of a gradiometer's coils


@dataclass(frozen=True, eq=False)
class GenerativeModel:
    """The distribution of windows, in units of standardised data (the noise of a trial has a deviation of about 1).

    A trial of class c in session s is gain_s * (template_c + spatial @ Z @ temporal.T) + offset_s, Z standard normal.
    A group averages K trials. Given its session counts n_s it is Gaussian with mean
    (sum n_s gain_s / K) template_c + sum n_s offset_s / K and Kronecker covariance, spatial by temporal, times
    (sum n_s gain_s^2) / K^2.

    classes: V names.  prior: [V] share of each, float64.  templates: [V, C, T] float32.  spatial: [C, C] and
    temporal: [T, T], lower Cholesky factors of the noise correlation, float64.  session_share, session_gain: [S],
    float64.  session_offset: [S, C] float64, constant over time.
    """

    classes: tuple[str, ...]
    prior: Float[np.ndarray, " V"]
    templates: Float[np.ndarray, "V C T"]
    spatial: Float[np.ndarray, "C C"]
    temporal: Float[np.ndarray, "T T"]
    session_share: Float[np.ndarray, " S"]
    session_gain: Float[np.ndarray, " S"]
    session_offset: Float[np.ndarray, "S C"]

    def mix(
        self, sessions: Int[np.ndarray, "N S"]
    ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "N C"], Float[np.ndarray, " N"]]:
        """Gain of the template, offset and standard deviation of the noise, of groups with these session counts."""
        level = sessions.sum(axis=1)
        gain = sessions @ self.session_gain / level
        offset = sessions @ self.session_offset / level[:, None]
        return gain, offset, np.sqrt(sessions @ self.session_gain**2) / level

    def draw(
        self, labels: Int[np.ndarray, " N"], level: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "N C T"], Int[np.ndarray, "N S"]]:
        """Groups of `level` trials of the given classes, float32, and how many trials each session gave."""
        _, sensors, time_points = self.templates.shape
        sessions = rng.multinomial(level, self.session_share, size=len(labels))
        gain, offset, deviation = (value.astype(np.float32) for value in self.mix(sessions))
        noise = rng.standard_normal((len(labels), sensors, time_points), dtype=np.float32)
        x = between(self.spatial.astype(np.float32), noise, self.temporal.astype(np.float32))
        x *= deviation[:, None, None]
        x += gain[:, None, None] * self.templates[labels]
        x += offset[:, :, None]
        return x, sessions


class MatchedFilter:
    """The maximum-a-posteriori classifier of a model's groups, given their session counts: no classifier is better.

    Equal covariances make the log posterior linear in the data: one product with V filters, inverse noise covariance
    times template (Turin, 1960, "An introduction to matched filters").
    """

    def __init__(self, model: GenerativeModel):
        spatial, temporal = np.linalg.inv(model.spatial), np.linalg.inv(model.temporal)
        templates = model.templates.astype(np.float64)
        filters = between(spatial.T @ spatial, templates, temporal.T @ temporal)
        self.model = model
        self._filters = filters.reshape(len(filters), -1).astype(np.float32)
        self._filter_sums = filters.sum(axis=2)  # [V, C]: what an offset, constant over time, adds to each score
        self._energy = np.einsum("vct,vct->v", filters, templates)

    def log_posterior(
        self, x: Float[np.ndarray, "N C T"], sessions: Int[np.ndarray, "N S"]
    ) -> Float[np.ndarray, "N V"]:
        """The log posterior of each class, in nats, float64, up to a constant for each row."""
        gain, offset, deviation = self.model.mix(sessions)
        match = x.reshape(len(x), -1) @ self._filters.T - offset @ self._filter_sums.T
        precision = 1 / deviation[:, None] ** 2
        return precision * (gain[:, None] * match - gain[:, None] ** 2 * self._energy / 2) + np.log(self.model.prior)

    def predict(self, x: Float[np.ndarray, "N C T"], sessions: Int[np.ndarray, "N S"]) -> Int[np.ndarray, " N"]:
        """The most probable class of each group."""
        return self.log_posterior(x, sessions).argmax(axis=1)


def generative_model(
    classes: Sequence[str] = PHONEMES, *, sensors: int, time_points: int, seed: int
) -> GenerativeModel:
    """The model of a seed. It does not depend on the grouping level or the number of groups.

    A template is the sum of the responses to the features of a phoneme, one response of its own, and one that all
    phonemes share. Classes that are no phonemes have random features. Latencies scale with the window.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    background = lead_field(sensors, *_dipoles(rng, 300, cortex=True))
    scale = np.linalg.norm(background, axis=1, keepdims=True)
    background /= scale
    covariance = (1 - WHITE_SHARE) * background @ background.T + WHITE_SHARE * np.eye(sensors)
    spatial = np.linalg.cholesky(covariance)
    lags = np.abs(np.subtract.outer(np.arange(time_points), np.arange(time_points)))
    temporal = np.linalg.cholesky(autocovariance(time_points)[lags])

    if all(name in PHONEMES for name in classes):
        table = feature_table(classes).astype(np.float64)
    else:
        table = rng.integers(0, 2, (len(classes), len(FEATURES))).astype(np.float64)
    responses = _responses(rng, 1 + len(FEATURES) + len(classes), scale, time_points)
    whiten_space, whiten_time = np.linalg.inv(spatial), np.linalg.inv(temporal)
    responses /= np.linalg.norm(between(whiten_space, responses, whiten_time), axis=(1, 2), keepdims=True)
    common, of_features, own = np.split(responses, [1, 1 + len(FEATURES)])
    templates = COMMON_PART * common + np.tensordot(table, of_features, 1) + PHONEME_PART * own
    templates *= MEDIAN_DISTANCE / np.median(pair_distances(between(whiten_space, templates, whiten_time)))

    share = rng.uniform(0.5, 1.5, SESSIONS)
    gain = np.exp(GAIN_SPREAD * rng.standard_normal(SESSIONS))
    share /= share.sum()
    return GenerativeModel(
        classes=tuple(classes),
        prior=class_frequencies(classes),
        templates=templates.astype(np.float32),
        spatial=spatial,
        temporal=temporal,
        session_share=share,
        session_gain=gain / np.sqrt(share @ gain**2),
        session_offset=OFFSET_SPREAD * rng.standard_normal((SESSIONS, sensors)),
    )


def lead_field(
    sensors: int, position: Float[np.ndarray, "D 3"], moment: Float[np.ndarray, "D 3"]
) -> Float[np.ndarray, "C D"]:
    """The signal of current dipoles at `position` (m) in each sensor, in arbitrary units.

    Sensors sit on a helmet in triplets (gradiometer, gradiometer, magnetometer). The radial field of a dipole Q at
    R in a spherical conductor is that of the dipole alone: (R x Q) . r / (|r| |r - R|^3). A gradiometer measures the
    difference of two coils (Hamalainen et al., 1993, Reviews of Modern Physics 65, section III.C).
    """
    site = np.arange(-(-sensors // 3))
    height = 1 - 1.1 * (site + 0.5) / len(site)
    angle = site * np.pi * (3 - np.sqrt(5))  # a Fibonacci spiral covers the helmet evenly
    ring = np.sqrt(1 - height**2)
    normal = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    first = np.cross(normal, [1.0, 0.0, 0.0])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normal, first)

    def field(at: Float[np.ndarray, "L 3"]) -> Float[np.ndarray, "L D"]:
        distance = np.linalg.norm(at[:, None] - position, axis=2)
        return (at / np.linalg.norm(at, axis=1, keepdims=True)) @ np.cross(position, moment).T / distance**3

    coils = _HELMET * normal
    gradients = [
        field(coils + _GRADIOMETER_ARM * arm) - field(coils - _GRADIOMETER_ARM * arm) for arm in (first, second)
    ]
    return np.stack([*gradients, field(coils)], axis=1).reshape(-1, len(position))[:sensors]


def autocovariance(time_points: int) -> Float[np.ndarray, " T"]:
    """Autocovariance of 1/f noise of variance 1 at lags 0 .. T-1 of 1/250 s: the transform of its power spectrum.

    The spectrum is flat below 1 Hz, as after a high-pass filter, and never 0, so covariances have an inverse.
    """
    samples = max(4 * time_points, 1 << 15)
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    covariance = np.fft.irfft(1 / np.maximum(frequency, 1.0), samples)[:time_points]
    return covariance / covariance[0]


def between(
    left: Float[np.ndarray, "C C"], x: Float[np.ndarray, "N C T"], right: Float[np.ndarray, "T T"]
) -> Float[np.ndarray, "N C T"]:
    """`left @ x_n @ right.T` for every n, as two large products, which are faster than many small ones."""
    count, sensors, time_points = x.shape
    timed = (x.reshape(-1, time_points) @ right.T).reshape(x.shape)
    spaced = left @ timed.swapaxes(0, 1).reshape(sensors, -1)
    return np.ascontiguousarray(spaced.reshape(sensors, count, time_points).swapaxes(0, 1))


def pair_distances(patterns: Float[np.ndarray, "V C T"]) -> Float[np.ndarray, " pairs"]:
    """Euclidean distances between the patterns of every two classes, in the order of `np.triu_indices(V, 1)`."""
    flat = patterns.reshape(len(patterns), -1)
    first, second = np.triu_indices(len(flat), 1)
    return np.array([np.linalg.norm(flat[i] - flat[j]) for i, j in zip(first, second, strict=True)])


def _dipoles(
    rng: np.random.Generator, count: int, *, cortex: bool
) -> tuple[Float[np.ndarray, "D 3"], Float[np.ndarray, "D 3"]]:
    """Positions (m) and moments of dipoles: all over the cortex, or around the two auditory cortices."""
    if cortex:
        position = rng.standard_normal((count, 3))
        position[:, 2] = np.abs(position[:, 2])
        position *= rng.uniform(0.03, 0.085, (count, 1)) / np.linalg.norm(position, axis=1, keepdims=True)
    else:
        position = np.array([0.055, 0.0, 0.035]) + rng.standard_normal((count, 3)) * [0.006, 0.018, 0.012]
        position[:, 0] *= rng.choice([-1, 1], count)
    return position, rng.standard_normal((count, 3))


def _responses(
    rng: np.random.Generator, count: int, scale: Float[np.ndarray, "C 1"], time_points: int
) -> Float[np.ndarray, "n C T"]:
    """Evoked responses in units of the noise. Each is the sum of three sources, which have a waveform of their own."""
    sources = 3
    pattern = lead_field(len(scale), *_dipoles(rng, count * sources, cortex=False)) / scale
    latency = rng.uniform(0.15, 0.75, (count * sources, 1))  # share of the window: 75 to 375 ms of 0.5 s
    width = np.maximum(rng.uniform(0.03, 0.12, (count * sources, 1)), 1 / time_points)
    phase, cycles = rng.uniform(0, 2 * np.pi, (count * sources, 1)), rng.uniform(0, 6, (count * sources, 1))
    elapsed = (np.arange(time_points) + 0.5) / time_points - latency
    waveform = np.exp(-((elapsed / width) ** 2) / 2) * np.cos(2 * np.pi * cycles * elapsed + phase)
    return np.einsum("cns,nst->nct", pattern.reshape(-1, count, sources), waveform.reshape(count, sources, -1))
