"""What each diagnostic means, in one sentence, and whether it is fine.

Every function takes plain numbers and returns a :class:`Finding`. Thresholds are the module's
constants, each with its reason; nothing else decides between fine, warn and bad. A level of "info"
tells a fact that cannot be good or bad by itself.
"""

import math
from typing import Literal, NamedTuple

Level = Literal["fine", "warn", "bad", "info"]

TAIL_SAMPLES = 5
"""Samples that each end of an interval should have beyond it: with five, the end is known to about
half its distance from the next quantile; with none it is the range of the samples."""

ESS_SHARES = (0.5, 0.1)
"""Shares of effective samples below which weights are uneven, and below which few samples decide.
One half is where SMC samplers resample by custom; below a tenth most samples are for show."""

BIT_P_VALUES = (0.01, 1e-4)
"""p-values, from either end, below which agreement of bits is suspicious, and below which it is
wrong. The check is conservative, so these are rarer than they look."""

RHATS = (1.01, 1.05)
"""R-hat above which chains disagree (Vehtari et al., Bayesian Analysis 16, 2021), and above which
they have plainly seen different distributions."""

ESS_PER_CHAIN = 100
"""Effective draws of each chain that R-hat and quantiles need (Vehtari et al., 2021)."""

MISS_FACTORS = (2.0, 4.0)
"""Times the promised share of misses that make a single signal suspicious, and wrong. Elements of
one signal are correlated, so that twice the promise is within what chance does."""


class Finding(NamedTuple):
    """One diagnostic in words.

    Attributes:
        name: What was looked at.
        level: "fine", "warn", "bad", or "info" for a fact without judgement.
        sentence: What the figure means.
    """

    name: str
    level: Level
    sentence: str


def judge_exactness(algorithm: str, exactness: str | None) -> Finding:
    """Whether the algorithm draws from the posterior.

    Args:
        algorithm: Its name.
        exactness: What the registry says its output tends to; a text that starts with "no" means
            that it does not tend to the posterior. None if the algorithm is unknown here.
    """
    name = "Algorithm"
    if not exactness:
        known = algorithm or "The algorithm of this file"
        return Finding(
            name, "info", f"{known} is not one of this package, which cannot say what it tends to."
        )
    verdict, _, reason = exactness.partition(": ")
    if verdict == "no":
        return Finding(
            name,
            "warn",
            f"{algorithm} does not draw from the posterior, whatever its settings ({reason}): "
            "take spread and intervals as approximations, which bayes1bit bench calibration can "
            "measure.",
        )
    if verdict.startswith("yes"):
        return Finding(name, "fine", f"{algorithm} draws from the posterior ({exactness}).")
    if verdict.startswith("of "):
        return Finding(name, "fine", f"{algorithm} draws samples {exactness}.")
    return Finding(name, "fine", f"{algorithm} draws from the posterior in a limit: {exactness}.")


def judge_sample_count(effective: float, prob: float) -> Finding:
    """Whether there are enough samples for the ends of an interval.

    Args:
        effective: Effective number of samples.
        prob: Probability inside the interval, in (0, 1).
    """
    name, interval = "Number of samples", f"{100 * prob:.3g}% interval"
    reaching, wanted = (math.ceil(round(k * 2 / (1 - prob), 9)) for k in (1, TAIL_SAMPLES))
    worth = f"{effective:.4g} effective sample{'' if effective == 1 else 's'}"
    if effective < 2:
        return Finding(
            name, "bad", f"{worth}: this is one estimate, whose spread and intervals mean nothing."
        )
    if effective < reaching:
        return Finding(
            name,
            "warn",
            f"{worth} cannot reach the ends of a {interval}, which is then about the range of "
            f"the samples and tends to be too narrow; {wanted} make it reliable.",
        )
    if effective < wanted:
        return Finding(
            name,
            "warn",
            f"{worth} reach the ends of a {interval}, but fewer than {TAIL_SAMPLES} lie beyond "
            f"each end, so that it is rough; {wanted} make it reliable.",
        )
    return Finding(name, "fine", f"{worth} are enough for the ends of a {interval}.")


def judge_weights(effective: float, num_samples: int) -> Finding:
    """Whether weights are even enough.

    Args:
        effective: Kish's effective sample size.
        num_samples: Number of weighted samples.
    """
    share = effective / num_samples
    figure = f"The weights are worth {effective:.4g} of {num_samples} samples ({share:.0%})"
    if share >= ESS_SHARES[0]:
        return Finding("Weights", "fine", f"{figure}: they are even.")
    if share >= ESS_SHARES[1]:
        return Finding(
            "Weights",
            "warn",
            f"{figure}: they are uneven, and averages are rough.",
        )
    return Finding(
        "Weights",
        "bad",
        f"{figure}: a few samples decide everything; take more particles or more levels.",
    )


def judge_bits(average: float, expected: float, p_value: float, num_bits: int) -> Finding:
    """Whether the samples explain the bits as well as they should.

    Args:
        average: Share of observed bits that replicates agree with.
        expected: The share if the data came from the samples.
        p_value: Posterior predictive p-value of the agreement.
        num_bits: Number of bits.
    """
    name = "Agreement of bits"
    figure = (
        f"Bits replicated from the samples agree with {average:.1%} of the {num_bits} observed "
        f"ones, where {expected:.1%} are expected (p = {p_value:.2g})"
    )
    tail = min(p_value, 1 - p_value)
    if tail >= BIT_P_VALUES[0]:
        return Finding(
            name, "fine", f"{figure}: the samples explain the data as well as they should."
        )
    level: Level = "bad" if tail < BIT_P_VALUES[1] else "warn"
    if p_value < 0.5:
        return Finding(
            name,
            level,
            f"{figure}: the samples explain the data too badly; look at the noise, the operator "
            "and the prior, or take more levels.",
        )
    return Finding(
        name,
        level,
        f"{figure}: the samples explain the data better than the truth would, so they fit noise, "
        "and the assumed noise may be too large.",
    )


def judge_rhat(largest: float, of: str) -> Finding:
    """Whether chains agree.

    Args:
        largest: Largest R-hat of the numbers looked at.
        of: Name of the number that has it.
    """
    figure = f"The largest R-hat is {largest:.3f} (of {of})"
    if largest <= RHATS[0]:
        return Finding("Agreement of chains", "fine", f"{figure}: the chains agree.")
    level: Level = "warn" if largest <= RHATS[1] else "bad"
    return Finding(
        "Agreement of chains",
        level,
        f"{figure}, above {RHATS[0]:g}: the chains have not seen the same distribution; run them "
        "longer, and compare them in the rank plot.",
    )


def judge_chain_draws(smallest: float, of: str, num_chains: int) -> Finding:
    """Whether chains are long enough for their autocorrelation.

    Args:
        smallest: Smallest effective sample size of the numbers looked at, over all chains.
        of: Name of the number that has it.
        num_chains: Number of chains.
    """
    wanted = ESS_PER_CHAIN * num_chains
    figure = f"The draws are worth {smallest:.0f} independent ones (of {of})"
    if smallest >= wanted:
        return Finding(
            "Effective draws",
            "fine",
            f"{figure} or more, enough for {num_chains} chains.",
        )
    return Finding(
        "Effective draws",
        "warn",
        f"{figure}, where {wanted} are wanted for {num_chains} chains; run them longer.",
    )


def judge_short_chains(length: int, needed: int) -> Finding:
    """That chains are too short to be compared.

    Args:
        length: Draws of each chain.
        needed: Draws that R-hat needs.
    """
    return Finding(
        "Agreement of chains",
        "warn",
        f"Chains of {length} draw{'' if length == 1 else 's'} are too short to tell whether they "
        f"agree; R-hat needs {needed}, and says more from {ESS_PER_CHAIN}.",
    )


def judge_misses(missed: float, prob: float) -> Finding:
    """Whether the interval misses a known truth about as often as it promises.

    Args:
        missed: Share of elements whose truth lies visibly outside the interval.
        prob: Probability inside the interval, in (0, 1).
    """
    promised = 1 - prob
    figure = (
        f"The truth lies visibly outside the {100 * prob:.3g}% interval in {missed:.1%} of the "
        f"elements, where {promised:.1%} are promised"
    )
    if missed <= MISS_FACTORS[0] * promised:
        why = "no more than promised" if missed <= promised else "one signal may do so by chance"
        return Finding("Misses of the truth", "fine", f"{figure}: {why}.")
    level: Level = "warn" if missed <= MISS_FACTORS[1] * promised else "bad"
    return Finding(
        "Misses of the truth", level, f"{figure}: the posterior is surer than it should be."
    )


def tell_evidence(log_evidence: float | None) -> Finding:
    """The log evidence, if there is one."""
    if log_evidence is None:
        return Finding(
            "Evidence",
            "info",
            "This run gives no estimate of log p(y), so that models cannot be compared by it; "
            "the SMC algorithms give one.",
        )
    return Finding(
        "Evidence",
        "info",
        f"log p(y) is about {log_evidence:.2f} nats: of two models of the same data, the one with "
        "the larger figure predicts them better.",
    )


def tell_cost(nfe: float, seconds: float, num_samples: int) -> Finding:
    """What the run cost.

    Args:
        nfe: Denoiser calls for each sample.
        seconds: Wall-clock time of the run.
        num_samples: Number of samples.
    """
    return Finding(
        "Cost",
        "info",
        f"The run took {seconds:.3g} s and {nfe:g} denoiser calls for each of "
        f"{num_samples} sample{'' if num_samples == 1 else 's'}.",
    )
