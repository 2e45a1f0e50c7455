"""Checkpoints of diffusers and of guided diffusion: what is read, and what is refused."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from bayes1bit.diffusion import ADM_PRESETS, from_diffusers, from_guided_diffusion
from bayes1bit.diffusion.adapters import schedules
from bayes1bit.diffusion.adapters.checkpoint import read_weights
from bayes1bit.diffusion.adapters.diffusers import RENAMED
from bayes1bit.diffusion.adapters.guided_diffusion import architecture
from bayes1bit.errors import InputError
from bayes1bit.networks import ADMUNet

SAFE, UNSAFE = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"


class Trap:
    """An object whose pickle, when loaded, makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def edit(path, **changes):
    """Change entries of a JSON file; an ellipsis removes one."""
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


# --- diffusers --------------------------------------------------------------------------------


def unet(**settings):
    torch.manual_seed(0)
    return UNet2DModel(
        **{
            "sample_size": (8, 16),
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": (32, 32),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        }
        | settings
    ).eval()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Folder of a pipeline as the library saves it, but for the index."""
    folder = tmp_path_factory.mktemp("pipeline")
    unet().save_pretrained(folder / "unet")
    DDPMScheduler(clip_sample=False).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def copy(pipeline, tmp_path):
    return Path(shutil.copytree(pipeline, tmp_path / "copy"))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "schedule",
    [
        {"beta_schedule": "linear"},
        {"beta_schedule": "scaled_linear", "beta_start": 0.0008, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400},
        {"trained_betas": [0.001 * (i + 1) for i in range(100)], "num_train_timesteps": 100},
    ],
    ids=["linear", "scaled_linear", "cosine", "trained"],
)
def test_clean_mean_is_what_the_scheduler_predicts(copy, schedule, prediction):
    """At trained steps, where the library has an answer of its own."""
    scheduler = DDPMScheduler(prediction_type=prediction, clip_sample=False, **schedule)
    scheduler.save_pretrained(copy / "scheduler")
    prior = from_diffusers(copy)
    network, share = unet(), scheduler.alphas_cumprod
    x_t = torch.randn(2, 3, 8, 16)
    for t in (1, 37, 90):
        with torch.no_grad():
            output = network(x_t, t).sample
        expected = scheduler.step(output, t, x_t).pred_original_sample
        sigma = ((1 - share[t]) / share[t]).sqrt()
        torch.testing.assert_close(
            prior.denoise(x_t / share[t].sqrt(), sigma), expected, rtol=1e-3, atol=1e-3
        )


def test_prior_of_a_pipeline(pipeline):
    prior = from_diffusers(pipeline, max_batch=1)
    assert tuple(prior.event_shape) == (3, 8, 16)
    assert prior.data_range == (-1.0, 1.0)
    assert (prior.sigma_min, prior.sigma_max) == pytest.approx((0.01, 157.4), rel=1e-3)
    assert prior.max_batch == 1
    assert not any(p.requires_grad or p.is_meta for p in prior.denoiser.parameters())
    assert not prior.denoiser.training


def test_all_files_side_by_side_with_names_and_format_of_the_first_versions(copy):
    """As in google/ddpm-cifar10-32 before its weights were converted."""
    expected = from_diffusers(copy)
    weights = load_file(copy / "unet" / SAFE)
    present = {new: old for old, new in RENAMED.items()}
    old = {}
    for name, tensor in weights.items():
        for new, former in present.items():
            name = name.replace(f".{new}.", f".{former}.")
        old[name] = tensor
    assert any("proj_attn" in name for name in old)
    (copy / "unet" / SAFE).unlink()
    torch.save(old, copy / UNSAFE)
    shutil.move(copy / "unet" / "config.json", copy)
    shutil.move(copy / "scheduler" / "scheduler_config.json", copy)
    edit(copy / "scheduler_config.json", prediction_type=...)
    x = torch.randn(2, 3, 8, 16)
    assert torch.equal(from_diffusers(copy).denoise(x, 0.5), expected.denoise(x, 0.5))
    edit(copy / "scheduler_config.json", predict_epsilon=False)
    assert from_diffusers(copy).denoiser.prediction_type == "sample"


NETWORKS = {
    "classes": ({"num_class_embeds": 10}, "class-conditional network"),
    "class of embedding": ({"class_embed_type": "timestep"}, "class-conditional network"),
    "other class": ({"_class_name": "UNet2DConditionModel"}, "expected a UNet2DModel"),
    "Fourier": ({"time_embedding_type": "fourier"}, "expected positional"),
    "centred": ({"center_input_sample": True}, r"expected \[-1, 1\]"),
    "no size": ({"sample_size": None}, "does not say the sample_size"),
    "condition": ({"in_channels": 6}, "from 6 channels to 3"),
    "no such block": ({"down_block_types": ["Magic", "Magic"]}, "does not describe a UNet2DModel"),
    "other width": ({"block_out_channels": [32, 64]}, "have other shapes"),
    "more layers": ({"layers_per_block": 2}, "tensors are missing"),
    "fewer layers": ({"add_attention": False}, "are foreign"),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_other_networks_are_refused(copy, case):
    changes, message = NETWORKS[case]
    edit(copy / "unet" / "config.json", **changes)
    with pytest.raises(InputError, match=message):
        from_diffusers(copy)


SCHEDULERS = {
    "no schedule": ({"beta_schedule": ...}, 'beta_schedule "None"'),
    "other schedule": ({"beta_schedule": "sigmoid"}, "expected linear, scaled_linear"),
    "terminal": ({"rescale_betas_zero_snr": True}, "zero terminal SNR"),
    "prediction": ({"prediction_type": "flow"}, 'got "flow"'),
    "betas": ({"trained_betas": [0.1, 2.0]}, "between 0 and 1"),
    "words": ({"trained_betas": ["a", "b"]}, "scheduler_config.json"),
    "steps": ({"num_train_timesteps": 1}, "two or more num_train_timesteps"),
    "start": ({"beta_start": "small"}, "positive beta_start"),
}


@pytest.mark.parametrize("case", SCHEDULERS)
def test_other_schedules_are_refused(copy, case):
    changes, message = SCHEDULERS[case]
    edit(copy / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(InputError, match=message):
        from_diffusers(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vqvae": ["diffusers", "VQModel"]}, "a pipeline with vqvae"),
        ({"unet": ["diffusers", "UNet2DConditionModel"]}, "pipeline with UNet2DConditionModel"),
    ],
)
def test_other_pipelines_are_refused(copy, changes, message):
    edit(copy / "model_index.json", **changes)
    with pytest.raises(InputError, match=message):
        from_diffusers(copy)


def test_parts_that_are_missing_or_damaged_are_refused(copy, tmp_path):
    with pytest.raises(InputError, match="is not a folder; expected a folder with unet/config"):
        from_diffusers(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"expected a folder with unet/config\.json"):
        from_diffusers(tmp_path)
    weights = copy / "unet" / SAFE
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged or not a safetensors file"):
        from_diffusers(copy)
    weights.unlink()
    with pytest.raises(InputError, match=f"holds no weights; expected {SAFE} or {UNSAFE}"):
        from_diffusers(copy)
    (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot read"):
        from_diffusers(copy)
    (copy / "unet" / "config.json").write_text("[]")
    with pytest.raises(InputError, match="must hold a JSON object, not a list"):
        from_diffusers(copy)


def test_ids_need_a_commit_and_take_a_pickle_only_where_there_is_nothing_else(
    pipeline, copy, monkeypatch
):
    calls = []

    def download(repository, *, revision, allow_patterns):
        calls.append(allow_patterns)
        return str(copy)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(InputError, match="name the commit as revision="):
        from_diffusers("google/ddpm-cifar10-32")
    assert not calls
    assert tuple(from_diffusers("some/one", revision="abc").event_shape) == (3, 8, 16)
    assert len(calls) == 1
    assert SAFE in calls[0]
    assert UNSAFE not in calls[0]
    torch.save(load_file(copy / "unet" / SAFE), copy / "unet" / UNSAFE)
    (copy / "unet" / SAFE).unlink()
    from_diffusers("some/one", revision="abc")
    assert UNSAFE in calls[-1]

    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(InputError, match="cannot download some/one at abc: no network"):
        from_diffusers("some/one", revision="abc")


# --- guided diffusion -------------------------------------------------------------------------

FLAGS = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "8",
    "num_head_channels": 16,
    "resblock_updown": True,
    "learn_sigma": True,
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ADMUNet(**architecture(FLAGS)).eval()


@pytest.fixture
def checkpoint(network, tmp_path):
    path = tmp_path / "adm.pt"
    torch.save(network.state_dict(), path)
    return path


def expected_mean(network, betas, x, step, predict_xstart=False):
    """The clean mean at a trained step, from the definitions."""
    share = (1 - betas).cumprod(0)[step].float()
    sigma = ((1 - share) / share).sqrt()
    with torch.no_grad():
        output = network(share.sqrt() * x, torch.full((len(x),), float(step)))[:, :3]
    return sigma, output if predict_xstart else x - sigma * output


@pytest.mark.parametrize(
    ("settings", "betas"),
    [
        ({}, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)),
        ({"diffusion_steps": 500}, torch.linspace(2e-4, 0.04, 500, dtype=torch.float64)),
        ({"noise_schedule": "cosine"}, schedules.cosine_betas(1000)),
        ({"predict_xstart": True}, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)),
    ],
    ids=["linear", "fewer steps", "cosine", "signal"],
)
def test_clean_mean_of_a_checkpoint(network, checkpoint, settings, betas):
    prior = from_guided_diffusion(checkpoint, **FLAGS, **settings, max_batch=3)
    assert tuple(prior.event_shape) == (3, 16, 16)
    assert prior.data_range == (-1.0, 1.0)
    assert prior.sigma_min == pytest.approx(float((betas[0] / (1 - betas[0])).sqrt()))
    assert prior.max_batch == 3
    assert not any(p.requires_grad or p.is_meta for p in prior.denoiser.parameters())
    x = torch.randn(2, 3, 16, 16)
    for step in (0, 250, 499):
        xstart = settings.get("predict_xstart", False)
        sigma, mean = expected_mean(network, betas, x, step, xstart)
        torch.testing.assert_close(prior.denoise(x, sigma), mean, rtol=1e-3, atol=1e-3)


def test_checkpoints_in_half_precision_and_in_safetensors(network, tmp_path):
    half = {name: tensor.half() for name, tensor in network.state_dict().items()}
    torch.save(half, tmp_path / "half.pt")
    save_file(half, tmp_path / "half.safetensors")
    x = torch.randn(2, 3, 16, 16)
    answers = [
        from_guided_diffusion(tmp_path / name, **FLAGS).denoise(x, 1.0)
        for name in ("half.pt", "half.safetensors")
    ]
    assert torch.equal(*answers)
    assert answers[0].dtype == torch.float32


def test_no_graph_is_kept(checkpoint):
    prior = from_guided_diffusion(checkpoint, **FLAGS)
    assert not prior.denoise(torch.randn(1, 3, 16, 16), 1.0).requires_grad


def test_presets_describe_their_networks(checkpoint, tmp_path):
    assert set(ADM_PRESETS) == {"ffhq256", "imagenet256"}
    with pytest.raises(InputError, match=r"have other shapes|tensors are missing") as refusal:
        from_guided_diffusion(checkpoint, preset="ffhq256")
    assert "the ADM network with image_size 256, num_channels 128" in str(refusal.value)
    # flags take precedence over those of the preset, which together are those of the checkpoint
    prior = from_guided_diffusion(checkpoint, preset="ffhq256", **FLAGS)
    assert tuple(prior.event_shape) == (3, 16, 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "say which network"),
        ({"preset": "cats"}, 'no preset "cats"; presets: ffhq256, imagenet256'),
        ({**FLAGS, "wdith": 3}, "unknown flags wdith; those of a network are image_size"),
        ({**FLAGS, "channel_mult": "1;2"}, 'numbers with commas, got "1;2"'),
        ({**FLAGS, "noise_schedule": "sigmoid"}, "linear or cosine"),
        ({**FLAGS, "diffusion_steps": 1}, "at least 2"),
        ({**FLAGS, "learn_sigma": False}, r"2 have other shapes \(out.2.bias: \(6,\), expected"),
        ({**FLAGS, "num_res_blocks": 2}, "tensors are missing"),
        ({**FLAGS, "attention_resolutions": ""}, "are foreign"),
        ({**FLAGS, "channel_mult": ""}, "published multipliers"),
    ],
)
def test_settings_that_do_not_fit_are_refused(checkpoint, settings, message):
    with pytest.raises(InputError, match=message):
        from_guided_diffusion(checkpoint, **settings)


def test_class_conditional_checkpoints_are_refused(network, tmp_path):
    weights = {**network.state_dict(), "label_emb.weight": torch.zeros(1000, 128)}
    torch.save(weights, tmp_path / "classes.pt")
    with pytest.raises(InputError, match="class-conditional"):
        from_guided_diffusion(tmp_path / "classes.pt", **FLAGS)


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["torch", "pickle", "legacy"])
def test_no_code_of_a_file_runs(tmp_path, kind):
    trap, path = tmp_path / "trap", tmp_path / "evil.pt"
    evil = {"input_blocks.0.0.weight": Trap(trap)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(InputError, match="asks for code to be run, which is never done here"):
        from_guided_diffusion(path, preset="ffhq256")
    assert not trap.exists()
    # the trap works where code is run
    if kind == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trap.exists()


def test_no_code_of_a_pipeline_runs(copy, tmp_path):
    (copy / "unet" / SAFE).unlink()
    torch.save({"conv_in.weight": Trap(tmp_path / "trap")}, copy / "unet" / UNSAFE)
    with pytest.raises(InputError, match="asks for code to be run"):
        from_diffusers(copy)
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_cut_files_are_refused(network, tmp_path, suffix, share):
    path = tmp_path / f"cut{suffix}"
    weights = network.state_dict()
    if suffix == ".pt":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    stored = path.read_bytes()
    path.write_bytes(stored[: int(share * len(stored))])
    with pytest.raises(InputError, match="damaged"):
        from_guided_diffusion(path, **FLAGS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(3)], "tensors by name, not a list"),
        ({"state_dict": {"a": torch.zeros(3)}, "step": 3}, "'state_dict' is a dict; take"),
        ({3: torch.zeros(3)}, "but 3 is a Tensor"),
        ({"a": torch.tensor([1.0, float("nan")])}, "NaN or infinite weights, in a"),
    ],
)
def test_files_of_anything_but_finite_tensors_by_name_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(InputError, match=message):
        read_weights(tmp_path / "other.pt")


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_weights(tmp_path / "none.pt")
