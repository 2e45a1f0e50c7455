"""The page of a posterior: its structure, its findings, and that nothing in it can do harm."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
import torch
from typer.testing import CliRunner

from bayes1bit.cli import app
from bayes1bit.diagnostics.bit_checks import check_bits
from bayes1bit.diagnostics.convergence import check_convergence
from bayes1bit.errors import InputError
from bayes1bit.infer import ALGORITHMS
from bayes1bit.measurement import Measurement
from bayes1bit.operators import Hadamard
from bayes1bit.pictures import write_picture
from bayes1bit.posterior import Posterior
from bayes1bit.report import build_page, findings, tables, write_report
from bayes1bit.report.build import judge
from bayes1bit.report.signal_figures import choose_samples

EVIL = '<script>alert("x")</script>'
BITS = 400


def posterior_of(
    shape=(1, 8, 8), num_samples=12, num_chains=1, weighted=False, seed=0, **options
) -> Posterior:
    """Samples of a signal with one-bit data that come from the very first of them."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*size):
        return torch.randn(*size, generator=generator)

    samples = (0.5 * randn(num_samples, *shape)).clamp(-1, 1)
    A = randn(BITS, samples[0].numel()) / samples[0].numel() ** 0.5
    output = samples.flatten(1) @ A.T / 0.5
    # no sample explains the data of another, so all share an output
    output = output[:1] + 0.01 * randn(num_samples, BITS)
    y = torch.where(output[0] + randn(BITS) > 0, 1.0, -1.0)
    log_likelihood = torch.special.log_ndtr(output * y)
    return Posterior(
        samples,
        weights=torch.rand(num_samples, generator=generator) if weighted else None,
        observed={"y": y},
        log_likelihood={"y": log_likelihood},
        predictive={"y": torch.where(output + randn(num_samples, BITS) > 0, 1.0, -1.0)},
        num_chains=num_chains,
        algorithm=options.pop("algorithm", "SplitGibbs"),
        attributes={"data_range": (-1.0, 1.0)} | options.pop("attributes", {}),
        **options,
    )


class Page(HTMLParser):
    """What a page consists of: start tags with attributes, and text by the tag around it."""

    EMPTY = ("meta", "img", "input", "br")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], "a tag was not closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self):
        return " ".join(data for tag, data in self.text if tag not in ("style", "script"))


def check_structure(page: Page) -> None:
    """What holds for every page: complete by itself, accessible, and well formed."""
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has code in {name}"
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                assert tag == "img"
                assert value.startswith("data:image/png;base64,")
        for name in ("for", "aria-labelledby", "aria-controls", "aria-describedby"):
            assert attributes.get(name, ids[0]) in ids
    assert not {"link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    style = "".join(data for tag, data in page.text if tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"(?<![\w-])width:\s*\d+px", style)
    assert "@media print" in style
    assert len(page.all("script")) == 1
    assert all(image["alt"].strip() for image in page.all("img"))
    assert page.all("html")[0]["lang"] == "en"
    policy = next(m for m in page.all("meta") if "http-equiv" in m)["content"]
    assert "default-src 'none'" in policy


def check_slider(page: Page, count: int, total: int) -> None:
    (slider,) = page.all("input")
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "1", str(count))
    assert slider["id"] in [label["for"] for label in page.all("label")]
    alts = [i["alt"] for i in page.all("img") if re.match(rf"Sample \d+ of {total}\b", i["alt"])]
    assert len(alts) == len(set(alts)) == count
    assert all(re.search(r"log-likelihood -\d+\.\d nats", alt) for alt in alts)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 8, 8), {}),
        ((8, 6), {}),
        ((3, 6, 8), {"weighted": True}),
        ((16,), {"weighted": True}),
        ((1, 16), {"num_chains": 2}),
        ((1, 8, 8), {"num_samples": 1}),
    ],
)
def test_pages_are_complete_and_accessible(shape, options):
    posterior = posterior_of(shape, **options)
    truth = posterior.samples[0]
    page = Page(build_page(posterior, truth=truth))
    check_structure(page)
    count = len(choose_samples(posterior))
    check_slider(page, count, posterior.num_samples)
    alts = " ".join(image["alt"] for image in page.all("img"))
    assert "standard deviation" in alts
    assert "interval" in alts
    assert "probability" in alts
    assert "truth" in alts.lower()
    assert ("Bars of the weights" in alts) is options.get("weighted", False)
    assert ("Rank histograms" in alts) is (options.get("num_chains", 1) > 1)
    assert "Agreement of bits" in page.words()


def test_signals_that_cannot_be_drawn_still_get_a_page():
    page = Page(build_page(posterior_of((2, 3, 4))))
    check_structure(page)
    assert "2x3x4 are neither pictures nor lines" in page.words()
    assert page.all("input") == []


def test_slider_is_bounded_and_shows_each_sample_once():
    chosen = choose_samples(posterior_of(num_samples=100))
    assert len(chosen) == len(set(chosen.tolist())) == 32
    samples = torch.zeros(5, 4)
    heavy = Posterior(samples, weights=torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]))
    assert choose_samples(heavy).tolist() == [1]


def test_whatever_comes_from_a_file_is_escaped():
    posterior = posterior_of(
        (1, 8, 8),
        site="<b>x</b>",
        algorithm=EVIL,
        settings={EVIL: EVIL},
        attributes={"structure": EVIL, "command": EVIL, "note": [EVIL], '"><img>': EVIL},
        latents={EVIL: torch.ones(12)},
    )
    text = build_page(posterior, title=EVIL, versions={EVIL: EVIL})
    page = Page(text)
    check_structure(page)
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") >= 10
    assert page.all("b") == page.all("b")[: len(judge(posterior))]
    assert dict(page.text)["title"] == EVIL


def test_latents_have_mean_spread_and_interval():
    scale = torch.arange(1.0, 6.0)
    gain = torch.arange(5.0)[:, None].expand(5, 20)
    posterior = Posterior(torch.randn(5, 4), latents={"scale": scale, "gain": gain})
    rows = tables.latent_rows(posterior, 0.9)
    assert rows[0] == ("scale", "3", "1.58", "1 to 5")
    assert [row[0] for row in rows[1:]] == [f"gain[{i}]" for i in range(16)] + ["gain"]
    assert rows[-1][1] == "and 4 more elements"
    weighted = Posterior(
        torch.randn(5, 4), latents={"scale": scale}, weights=torch.tensor([0, 0, 0, 1.0, 1.0])
    )
    assert tables.latent_rows(weighted, 0.9)[0][1] == "4.5"
    assert "Other unknowns" in Page(build_page(weighted)).words()


def test_recipe_tells_what_is_known_and_what_is_not():
    known = posterior_of(attributes={"seed": 7, "command": "bayes1bit recover a.nc --seed 7"})
    rows = dict(tables.recipe_rows(known))
    assert rows["Seed"] == "7"
    assert rows["Command line"] == "bayes1bit recover a.nc --seed 7"
    assert "not recorded" in dict(tables.recipe_rows(posterior_of()))["Seed"]
    assert "bayes1bit" in dict(tables.version_rows())


# --- findings ---------------------------------------------------------------------------------


def test_exactness_of_every_algorithm_is_judged():
    levels = {
        name: findings.judge_exactness(each.__name__, each.exactness).level
        for name, each in ALGORITHMS.items()
    }
    assert levels["dps"] == levels["biht"] == "warn"
    assert levels["nuts"] == levels["split-gibbs"] == levels["lookahead-smc"] == "fine"
    for name, each in ALGORITHMS.items():
        assert (levels[name] == "warn") == each.exactness.startswith("no")
    assert "does not draw" in findings.judge_exactness("DPS", ALGORITHMS["dps"].exactness).sentence
    assert findings.judge_exactness("Mine", None).level == "info"


@pytest.mark.parametrize(
    ("effective", "prob", "level", "text"),
    [
        (1, 0.9, "bad", "one estimate"),
        (19, 0.9, "warn", "100 make it reliable"),
        (20, 0.9, "warn", "rough"),
        (100, 0.9, "fine", "enough"),
        (19, 0.5, "warn", "20 make it reliable"),
        (20, 0.5, "fine", "enough"),
    ],
)
def test_sample_counts(effective, prob, level, text):
    finding = findings.judge_sample_count(effective, prob)
    assert finding.level == level
    assert text in finding.sentence


@pytest.mark.parametrize(("size", "level"), [(8, "fine"), (5, "fine"), (2, "warn"), (0.9, "bad")])
def test_weights(size, level):
    assert findings.judge_weights(size, 10).level == level


@pytest.mark.parametrize(
    ("p_value", "level", "text"),
    [
        (0.5, "fine", "as well as they should"),
        (0.005, "warn", "too badly"),
        (1e-6, "bad", "too badly"),
        (0.995, "warn", "fit noise"),
        (1.0, "bad", "fit noise"),
    ],
)
def test_agreement_of_bits(p_value, level, text):
    finding = findings.judge_bits(0.8, 0.8, p_value, 100)
    assert finding.level == level
    assert text in finding.sentence


@pytest.mark.parametrize(("rhat", "level"), [(1.005, "fine"), (1.03, "warn"), (1.5, "bad")])
def test_rhat(rhat, level):
    assert findings.judge_rhat(rhat, "x").level == level


def test_draws_misses_and_facts():
    assert findings.judge_chain_draws(400, "x", 4).level == "fine"
    assert findings.judge_chain_draws(399, "x", 4).level == "warn"
    levels = [findings.judge_misses(share, 0.9).level for share in (0.0, 0.19, 0.3, 0.5)]
    assert levels == ["fine", "fine", "warn", "bad"]
    assert "-12.25 nats" in findings.tell_evidence(-12.25).sentence
    assert "no estimate" in findings.tell_evidence(None).sentence
    assert "2.5 s and 60 denoiser calls" in findings.tell_cost(60, 2.5, 8).sentence


def test_bit_check_knows_good_samples_from_wrong_and_overfitted_ones():
    good = check_bits(posterior_of())
    assert good is not None
    assert good.num_bits == BITS
    # data that come from the samples: p is uniform over data, and seed 0 is no rare one
    assert 0.05 < good.p_value < 0.95
    base = posterior_of()
    y = base.observed["y"]

    def check(probability):
        """Samples that give every observed bit this probability."""
        ll = torch.full((12, BITS), probability).log()
        return check_bits(
            Posterior(base.samples, observed={"y": y}, log_likelihood={"y": ll})
        ).p_value

    assert check(0.9) > 0.9999, "bits of probability 0.9 should not all come true"
    assert check(0.2) < 1e-6
    assert check(0.5) == pytest.approx(0.5, abs=0.01), "coins agree as they should"
    assert check(1.0) == pytest.approx(0.5, abs=0.01), (
        "certain bits that come true are as expected"
    )


def test_bit_check_agrees_with_replicates():
    """The mean and the spread of the discrepancy are those of simulated replicates."""
    posterior = posterior_of(num_samples=1)
    check = check_bits(posterior)
    q = posterior.log_likelihood["y"].double().exp()[0]
    generator = torch.Generator().manual_seed(1)
    same = torch.rand(4000, BITS, generator=generator, dtype=torch.float64) < q
    shares = torch.where(same, q, 1 - q).mean(1)
    # 4000 replicates know the mean to 1.6% of the spread, the spread to 1.1%
    assert abs(shares.mean() - check.expected[0]) < 0.08 * check.spread[0]
    assert shares.std().item() == pytest.approx(check.spread.item(), rel=0.06)


def test_bit_check_needs_bits():
    y = torch.tensor([0, 1, 2])
    quantized = Posterior(
        torch.randn(4, 2), observed={"y": y}, log_likelihood={"y": torch.zeros(4, 3)}
    )
    assert check_bits(quantized) is None
    assert check_bits(Posterior(torch.randn(4, 2))) is None


def by_name(found):
    return {finding.name: finding.level for finding in found}


def test_chains_that_agree_and_that_do_not():
    agreeing = posterior_of((16,), num_samples=800, num_chains=2)
    levels = by_name(judge(agreeing))
    assert levels["Agreement of chains"] != "bad"
    assert levels["Effective draws"] == "fine"
    apart = posterior_of((16,), num_samples=800, num_chains=2)
    apart.samples[400:] += 3.0
    assert by_name(judge(apart))["Agreement of chains"] == "bad"
    assert by_name(judge(apart))["Effective draws"] == "warn"
    assert by_name(judge(apart))["Number of samples"] == "warn"
    assert by_name(judge(agreeing))["Number of samples"] == "fine"
    short = posterior_of((16,), num_samples=6, num_chains=2)
    assert by_name(judge(short))["Agreement of chains"] == "warn"
    assert check_convergence(short) is None
    assert "Agreement of chains" not in by_name(judge(posterior_of()))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (64,)])
def test_misses_are_those_of_the_truth(shape):
    posterior = posterior_of(shape, num_samples=200)
    inside, outside = posterior.mean, torch.full(shape, 1.0)
    assert by_name(judge(posterior, inside))["Misses of the truth"] == "fine"
    assert by_name(judge(posterior, outside))["Misses of the truth"] == "bad"
    assert "Misses of the truth" not in by_name(judge(posterior))


def test_truth_must_fit():
    posterior = posterior_of()
    with pytest.raises(InputError, match="truth has shape"):
        build_page(posterior, truth=torch.zeros(1, 4, 4))
    with pytest.raises(InputError, match="floating point"):
        build_page(posterior, truth=torch.zeros(1, 8, 8, dtype=torch.uint8))


def test_a_failed_page_leaves_no_file(tmp_path):
    path = tmp_path / "page.html"
    with pytest.raises(InputError):
        write_report(posterior_of(), path, truth=torch.zeros(3))
    assert list(tmp_path.iterdir()) == []
    write_report(posterior_of(), path, title="Coat")
    assert "<h1>Coat</h1>" in path.read_text(encoding="utf-8")


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a folder with ``posterior.nc``."""
    monkeypatch.chdir(tmp_path)
    posterior_of().save("posterior.nc")
    return lambda *words: CliRunner().invoke(app, ["report", *words])


def test_command_writes_a_page_and_prints_findings(run, tmp_path):
    write_picture("truth.png", torch.zeros(1, 8, 8), (-1, 1))
    result = run("posterior.nc", "--truth", "truth.png", "--out", "a.html", "--title", EVIL)
    assert result.exit_code == 0, result.stderr
    assert "fine: Algorithm" in result.stdout
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    check_structure(page)
    assert dict(page.text)["title"] == EVIL
    assert "Misses of the truth" in page.words()
    assert "Saved" in page.words(), "the file's time is told"
    result = run("posterior.nc", "--json")
    assert json.loads(result.stdout)["agreement_of_bits"]["level"] == "fine"
    assert (tmp_path / "report.html").is_file()
    assert run("posterior.nc", "-q").stdout == ""


def test_truth_of_another_size_is_resized(run):
    write_picture("large.png", torch.zeros(1, 20, 24), (-1, 1))
    resized = run("posterior.nc", "--truth", "large.png", "--resize", "--json")
    write_picture("truth.png", torch.zeros(1, 8, 8), (-1, 1))
    given = run("posterior.nc", "--truth", "truth.png", "--json")
    assert resized.exit_code == 0, resized.stderr
    name = "misses_of_the_truth"
    assert json.loads(resized.stdout)[name] == json.loads(given.stdout)[name]


def test_truth_may_come_from_a_measurement(run):
    operator, x = Hadamard((1, 8, 8), 16, seed=0), torch.zeros(1, 8, 8)
    for kept, code in ((True, 0), (False, 2)):
        Measurement.simulate(x, operator, scale=0.5, keep_truth=kept).save("m.nc")
        result = run("posterior.nc", "--truth", "m.nc")
        assert result.exit_code == code
    assert "does not keep the signal" in result.stderr


def test_wrong_input_is_one_sentence(run, tmp_path):
    write_picture("small.png", torch.zeros(1, 4, 4), (-1, 1))
    write_picture("truth.png", torch.zeros(1, 8, 8), (-1, 1))
    (tmp_path / "noise.nc").write_bytes(b"no posterior")
    Posterior(torch.randn(4, 1, 8, 8)).save("rangeless.nc")
    for words, text in (
        (("missing.nc",), "no such file"),
        (("noise.nc",), "not a NetCDF file"),
        (("posterior.nc", "--truth", "small.png"), "4x4 pixels"),
        (("posterior.nc", "--truth", "gone.npy"), "there is no file"),
        (("posterior.nc", "--resize"), "--resize is for the picture of --truth"),
        (("posterior.nc", "--out", "."), "is a folder"),
        (("rangeless.nc", "--truth", "truth.png"), "give a .npy array of floats"),
    ):
        result = run(*words)
        assert result.exit_code == 2
        assert text in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "report.html").exists()


def test_help_ends_with_examples(run):
    assert "\n    bayes1bit report" in run("--help").stdout.split("Examples:")[1]


def test_commands_record_how_to_run_them_again(tmp_path, monkeypatch, tiny_prior):
    monkeypatch.chdir(tmp_path)
    words = ["demo", "--prior", str(tiny_prior), "--num-samples", "2", "--seed", "5", "-q"]
    words += ["--method", "diff-onebit num_levels=3 data_step=proximal"]
    assert CliRunner().invoke(app, words).exit_code == 0
    attributes = Posterior.load("demo/posterior.nc").attributes
    assert attributes["seed"] == 5
    assert attributes["command"].startswith(f"bayes1bit demo --prior {tiny_prior} ")
    assert attributes["command"].endswith("'diff-onebit num_levels=3 data_step=proximal'")


# --- a browser --------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
OPTIONS += ["--window-size=500,900", "--dump-dom"]

DRIVE = """
<script>
const input = document.getElementById("sample-slider");
const shown = () => [...document.querySelectorAll("#samples figure")]
  .filter((figure) => figure.offsetParent !== null).map((figure) => figure.id).join();
const seen = [shown()];
input.value = 3;
input.dispatchEvent(new Event("input"));
seen.push(shown(), input.getAttribute("aria-valuetext"), input.offsetParent !== null);
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.body.dataset.seen = [...seen, wide].join("|");
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 64)])
def test_slider_changes_the_picture_in_a_browser(tmp_path, shape):
    posterior = posterior_of(shape, num_samples=5, settings={"long": "x" * 200})
    path = tmp_path / "page.html"
    text = build_page(posterior, truth=posterior.samples[0])
    path.write_text(text.replace("</body>", f"{DRIVE}</body>"), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path}/profile", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    first, second, spoken, usable, wide = re.search(r'data-seen="([^"]*)"', done.stdout)[1].split(
        "|"
    )
    assert (first, second) == ("sample-1", "sample-3")
    assert spoken.startswith("Sample 3 of 5, log-likelihood")
    assert usable == "true"
    assert wide == "false", "a narrow window should not scroll sideways"
    assert "CONSOLE" not in done.stderr
