"""From a posterior to its page: what is computed, and in which order it is told."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from bayes1bit.diagnostics.bit_checks import BitCheck, check_bits
from bayes1bit.diagnostics.convergence import MIN_DRAWS, Convergence, check_convergence
from bayes1bit.errors import InputError
from bayes1bit.files import complete_or_absent
from bayes1bit.report import diagnostic_figures, findings, page, signal_figures, tables
from bayes1bit.report.findings import Finding

if TYPE_CHECKING:
    from bayes1bit.posterior import Posterior
    from bayes1bit.report.drawing import Drawing


def write_report(
    posterior: "Posterior",
    path: str | Path,
    *,
    title: str = "",
    truth: Tensor | None = None,
    prob: float = 0.9,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Write a posterior as one web page, which appears only when complete.

    Args:
        posterior: The posterior.
        path: File to write.
        title: Title of the page; "Posterior of SITE" if empty.
        truth: The true signal, shape event, if it is known.
        prob: Probability inside the intervals, in (0, 1).
        versions: Versions that made the posterior, by package, if it comes from a file (see
            :func:`bayes1bit.report.tables.recorded_versions`); those of this process if None.

    Raises:
        InputError: If ``truth`` has another shape or holds NaN, ``prob`` is outside (0, 1), or the
            file cannot be written.
    """
    text = build_page(posterior, title=title, truth=truth, prob=prob, versions=versions)
    with complete_or_absent(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def build_page(
    posterior: "Posterior",
    *,
    title: str = "",
    truth: Tensor | None = None,
    prob: float = 0.9,
    versions: Mapping[str, str] | None = None,
) -> str:
    """The text of the page; arguments and errors are those of :func:`write_report`."""
    limits = _limits(posterior, truth)
    bits, convergence = check_bits(posterior), check_convergence(posterior)
    found = judge(posterior, truth, prob, bits=bits, convergence=convergence)
    sections = [
        page.section(
            "result",
            "Result",
            page.table(tables.summary_rows(posterior, truth, prob, limits), "Result in numbers"),
        ),
        page.section("findings", "Is it fine?", page.findings_list(found)),
        *_picture_sections(posterior, truth, prob, limits),
        _latent_section(posterior, prob),
        _diagnostic_section(posterior, bits, convergence),
        page.section(
            "recipe",
            "How to make it again",
            page.table(tables.recipe_rows(posterior), "What was run", code=True),
            page.heading("Settings"),
            page.table(tables.setting_rows(posterior), "Settings", code=True)
            or page.paragraph("No settings are recorded."),
            page.heading("Versions"),
            page.table(tables.version_rows(versions), "Versions", code=True),
        ),
    ]
    name = title or f"Posterior of {posterior.site}"
    return page.render_page(name, _lead(posterior, found), list(filter(None, sections)))


def judge(
    posterior: "Posterior",
    truth: Tensor | None = None,
    prob: float = 0.9,
    *,
    bits: BitCheck | None = None,
    convergence: Convergence | None = None,
) -> list[Finding]:
    """All findings about a posterior.

    Args:
        posterior: The posterior.
        truth: The true signal, shape event, if it is known.
        prob: Probability inside the intervals, in (0, 1).
        bits: Result of :func:`~bayes1bit.diagnostics.bit_checks.check_bits`, computed if None.
        convergence: Result of
            :func:`~bayes1bit.diagnostics.convergence.check_convergence`, likewise.

    Raises:
        InputError: As :func:`write_report`.
    """
    from bayes1bit.diagnostics.plots import visible_misses
    from bayes1bit.diagnostics.waveforms import is_waveform

    convergence = convergence or check_convergence(posterior)
    size, count = posterior.effective_sample_size, posterior.num_samples
    if convergence is not None:
        # draws of a chain follow one another, and are worth less than they are many
        size = min(size, float(convergence.ess.nan_to_num(nan=float("inf")).min()))
    found = [
        findings.judge_exactness(posterior.algorithm, _exactness(posterior.algorithm)),
        findings.judge_sample_count(size, prob),
    ]
    if posterior.weights is not None:
        found.append(findings.judge_weights(size, count))
    if posterior.num_chains > 1:
        found += _judge_chains(posterior, convergence)
    bits = bits or check_bits(posterior)
    if bits is not None:
        found.append(
            findings.judge_bits(bits.average, bits.average_expected, bits.p_value, bits.num_bits)
        )
    limits = _limits(posterior, truth)
    if truth is not None and count > 1:
        # lines fill a small part of the range that their unit allows
        drawn = None if is_waveform(truth.shape) else limits
        above, below = visible_misses(posterior, truth, prob, drawn)
        found.append(findings.judge_misses(float((above | below).double().mean()), prob))
    found.append(findings.tell_evidence(posterior.log_evidence))
    found.append(findings.tell_cost(posterior.nfe, posterior.seconds, count))
    return found


def _judge_chains(posterior: "Posterior", convergence: Convergence | None) -> list[Finding]:
    chains = posterior.num_chains
    if convergence is None:
        return [findings.judge_short_chains(posterior.num_samples // chains, MIN_DRAWS)]
    # what never changes has no R-hat, and says nothing
    worst = int(convergence.rhat.nan_to_num(nan=0.0).argmax())
    fewest = int(convergence.ess.nan_to_num(nan=float("inf")).argmin())
    return [
        findings.judge_rhat(float(convergence.rhat[worst]), convergence.names[worst]),
        findings.judge_chain_draws(
            float(convergence.ess[fewest]), convergence.names[fewest], chains
        ),
    ]


def _picture_sections(
    posterior: "Posterior", truth: Tensor | None, prob: float, limits: tuple[float, float]
) -> list[str]:
    """What the signal looks like, and its samples one at a time."""
    from bayes1bit.diagnostics.layout import can_be_drawn
    from bayes1bit.diagnostics.waveforms import is_waveform

    if not can_be_drawn(posterior.event_shape):
        shape = "x".join(map(str, posterior.event_shape)) or "one number"
        text = f"Signals of shape {shape} are neither pictures nor lines, and are not drawn."
        return [page.section("pictures", "Pictures", page.paragraph(text))]
    lines = is_waveform(posterior.event_shape)
    unit = str(posterior.attributes.get("unit", ""))
    overview = signal_figures.draw_overview(posterior, truth, prob, limits, unit)
    chosen = signal_figures.choose_samples(posterior)
    single = signal_figures.draw_samples(posterior, chosen, limits, unit)
    if lines:
        first, *rest = overview
        drawn = [page.figure(first, wide=True), page.figures(rest)]
    else:
        grid = signal_figures.draw_grid(posterior, chosen, limits)
        drawn = [page.figures(overview), page.heading("Samples"), page.figure(grid, wide=True)]
    shown = f"{len(chosen)} of {posterior.num_samples} samples can be leafed through."
    return [
        page.section("pictures", "Pictures", *drawn),
        page.section("single", "One sample at a time", page.paragraph(shown), page.slider(single)),
    ]


def _latent_section(posterior: "Posterior", prob: float) -> str:
    rows = tables.latent_rows(posterior, prob)
    if not rows:
        return ""
    header = ("site", "mean", "standard deviation", f"{100 * prob:.3g}% interval")
    return page.section(
        "latents", "Other unknowns", page.table(rows, "Other latent sites", header)
    )


def _diagnostic_section(
    posterior: "Posterior", bits: BitCheck | None, convergence: Convergence | None
) -> str:
    drawings: list[Drawing | None] = [
        None if bits is None else diagnostic_figures.draw_bits(posterior, bits),
        diagnostic_figures.draw_log_likelihood(posterior),
    ]
    if posterior.weights is not None:
        drawings.append(diagnostic_figures.draw_weights(posterior.weights))
    drawn = [drawing for drawing in drawings if drawing is not None]
    if convergence is None:
        return page.section("diagnostics", "Diagnostics", page.figures(drawn)) if drawn else ""
    rows = [
        (name, f"{rhat:.3f}", f"{ess:.0f}")
        for name, rhat, ess in zip(
            convergence.names, convergence.rhat.tolist(), convergence.ess.tolist(), strict=True
        )
    ]
    return page.section(
        "diagnostics",
        "Diagnostics",
        page.figures(drawn),
        page.heading("Chains"),
        page.figure(diagnostic_figures.draw_ranks(posterior), wide=True),
        page.table(rows, "Convergence of chains", ("number", "R-hat", "effective draws")),
    )


def _lead(posterior: "Posterior", found: list[Finding]) -> str:
    counts = Counter(finding.level for finding in found)
    made = f"by {posterior.algorithm}" if posterior.algorithm else "of an unnamed algorithm"
    return (
        f"{posterior.num_samples} posterior sample{'' if posterior.num_samples == 1 else 's'} "
        f"{made}. Diagnostics below: {counts['fine']} fine, {counts['warn']} to be careful with, "
        f"{counts['bad']} bad."
    )


def _limits(posterior: "Posterior", truth: Tensor | None) -> tuple[float, float]:
    """Range of the data, as it is stated or as it is found."""
    from bayes1bit.diagnostics.plots import drawn_limits

    shown = [posterior.samples]
    if truth is not None:
        if not truth.is_floating_point():
            raise InputError(f"truth must be floating point, not {truth.dtype}")
        posterior.check_event(truth, "truth")
        shown.append(truth)
    return drawn_limits(posterior.attributes.get("data_range"), shown)


def _exactness(algorithm: str) -> str | None:
    """What the registry says of an algorithm of this name."""
    from bayes1bit.infer.registry import ALGORITHMS

    by_class = {each.__name__: each.exactness for each in ALGORITHMS.values()}
    return by_class.get(algorithm)
