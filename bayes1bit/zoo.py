"""Finding and loading trained priors.

A trained prior is a folder with three files: ``recipe.toml`` (how it was made, hence its
architecture and data range), ``weights.safetensors`` (half-precision weights, the table of
denoising errors, and the facts of the training run) and ``MODEL_CARD.md``. The shipped ones are
inside the wheel; in an editable install they are the repository's ``priors/``. Others come from
the Hugging Face Hub, see :mod:`bayes1bit.hub`.

Binary networks are stored and loaded packed: weights of one bit as bits, all other numbers in half
precision. See :mod:`bayes1bit.networks.pack` for what a packed network can do.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from bayes1bit.diffusion import (
    DiffusionPrior,
    ErrorTable,
    MixedPrior,
    Sampling,
    StochasticMultistep,
)
from bayes1bit.errors import InputError
from bayes1bit.hub import hub_folder, is_hub_name
from bayes1bit.networks import compile_network, pack, packable

if TYPE_CHECKING:
    from bayes1bit.diffusion.training import Recipe

WEIGHTS = "weights.safetensors"
FORMAT = "bayes1bit prior 1"
"""Name of the one entry of the weights' metadata, which holds the facts as JSON."""
PACKAGE = Path(__file__).resolve().parent
SAMPLING = Sampling(StochasticMultistep(), "geometric", 40)
"""How trained priors draw samples; see :func:`load_prior`."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class PriorFolder:
    """A trained prior on disk.

    Attributes:
        name: The folder's name, or ``hf://owner/name@commit`` of one from the Hub.
        path: The folder.
        recipe: Its recipe.
        facts: Facts of the training run: ``parameters``, ``pictures``, ``seconds``, and so on.
        error: Held-out mean squared denoising error per level.
    """

    name: str
    path: Path
    recipe: "Recipe"
    facts: dict[str, Any]
    error: ErrorTable

    @property
    def size(self) -> int:
        """Size of the weights on disk, in bytes."""
        return (self.path / WEIGHTS).stat().st_size


def shipped_priors() -> dict[str, Path]:
    """Folders of the priors that come with the package, by name."""
    # in the wheel the folders lie inside the package, in the repository beside it
    for root in (PACKAGE / "priors", PACKAGE.parent / "priors"):
        found = {folder.parent.name: folder.parent for folder in sorted(root.glob(f"*/{WEIGHTS}"))}
        if found:
            return found
    return {}


def open_prior(name: str | Path) -> PriorFolder:
    """Read everything about a prior except its weights.

    Args:
        name: Name of a shipped prior, the path of a prior's folder, or ``"hf://owner/name"`` or
            ``"hf://owner/name@revision"`` for one on the Hub. Of a mixed prior,
            ``"CHEAP+EXACT"``, it is the exact one's.

    Raises:
        InputError: If there is no such prior, or its files are incomplete or foreign.
    """
    from safetensors import SafetensorError, safe_open

    if mixed := _mixed(name):
        return replace(open_prior(mixed.exact), name=str(name))

    from bayes1bit.diffusion.training import Recipe

    label, path = _find(name)
    recipe = Recipe.load(path)
    try:
        with safe_open(path / WEIGHTS, framework="pt") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise InputError(
                    f"{path / WEIGHTS} is not a prior of this package and version: its metadata "
                    f'have no entry "{FORMAT}"'
                )
            facts = json.loads(metadata[FORMAT])
            if not isinstance(facts, dict):
                raise InputError(
                    f"{path / WEIGHTS} is damaged or incomplete: the facts in its metadata are "
                    f"{facts!r}, not names and values"
                )
            error = ErrorTable(file.get_tensor("error.sigma"), file.get_tensor("error.mse"))
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error_:
        raise InputError(
            f"{path / WEIGHTS} is damaged or incomplete ({error_}); expected is the safetensors "
            "file that bayes1bit train writes, for nothing else is read"
        ) from error_
    return PriorFolder(label, path, recipe, facts, error)


def load_prior(
    name: str | Path,
    *,
    device: str | torch.device = "cpu",
    precision: str = "float32",
    compile: bool = False,
    max_batch: int | None = None,
) -> DiffusionPrior:
    """Load a trained prior.

    ``prior.sample`` draws by :data:`~bayes1bit.zoo.SAMPLING`, 40 steps of second order over
    geometric levels, which keep the contrast of the data; ``bayes1bit bench prior`` measures how
    near samples come.
    ``prior.sample_given`` and the algorithms' prior steps, whose walks are short, take
    variance-corrected steps.

    Args:
        name: Name of a shipped prior, such as ``"fashion32"``; or the path of a prior's folder;
            or ``"hf://owner/name"`` or ``"hf://owner/name@revision"`` for one on the Hub;
            or two of them, ``"CHEAP+EXACT"``, for a :class:`~bayes1bit.diffusion.MixedPrior`,
            and ``"CHEAP+EXACT@SIGMA"`` for one with that switch.
        device: Where to put it.
        precision: "float32", or "bfloat16" to run the network's products in bfloat16, which is
            faster for large batches on CPUs that have it. Products of bits stay what they are.
        compile: Whether ``torch.compile`` makes the network faster, after a first call that takes
            as long as the compiler; see :func:`~bayes1bit.networks.compile_network`. It cannot be
            differentiated twice then, as NUTS does. Networks of bits have compiled kernels anyway,
            and stay what they are.
        max_batch: Most signals in one call of the network, which bounds its memory; None for no
            bound.

    Returns:
        The prior, ready to use in a Pyro model.

    Raises:
        InputError: If there is no such prior, its files are incomplete or foreign, the precision
            is unknown, ``max_batch`` is less than 1, or there is no compiler.
    """
    from safetensors.torch import load_file

    from bayes1bit.diffusion.training.network import AUTOCAST, build_denoiser

    if precision not in AUTOCAST:
        raise InputError(f'precision is "{precision}"; use one of {", ".join(AUTOCAST)}')
    if mixed := _mixed(name):
        cheap, exact = (
            load_prior(
                part, device=device, precision=precision, compile=compile, max_batch=max_batch
            )
            for part in (mixed.cheap, mixed.exact)
        )
        return MixedPrior(cheap, exact, switch=mixed.switch)
    folder = open_prior(name)
    recipe = folder.recipe
    # only the shapes: no fresh weights are drawn and thrown away, nor binary ones held in float
    with torch.device("meta"):
        denoiser = build_denoiser(recipe, AUTOCAST[precision])
    if bits := packable(denoiser):
        denoiser = pack(denoiser)
    tensors = load_file(folder.path / WEIGHTS)
    weights = {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in tensors.items()
        if not key.startswith("error.")
    }
    _check_weights(folder, denoiser.state_dict(), weights)
    denoiser.load_state_dict(weights, assign=True)
    denoiser.requires_grad_(False).eval().to(device)
    if compile and not bits:
        compile_network(denoiser.network, device)
    return DiffusionPrior(
        denoiser,
        recipe.data.event_shape,
        recipe.noise.sigma_min,
        recipe.noise.sigma_max,
        error=folder.error,
        data_range=(recipe.data.low, recipe.data.high),
        sampling=SAMPLING,
        max_batch=max_batch,
    )


def as_stored(denoiser: Network) -> Network:
    """The denoiser that a file will give back: packed if it can be, in numbers of half precision.

    Args:
        denoiser: A trained denoiser in float32; if it cannot be packed it is changed itself.
    """
    if packable(denoiser):
        denoiser = pack(denoiser)
    return denoiser.half().float()


def save_prior(path: Path, denoiser: nn.Module, error: ErrorTable, facts: dict[str, Any]) -> None:
    """Write ``weights.safetensors`` of a prior's folder, as :func:`as_stored`.

    Args:
        path: The folder.
        denoiser: The trained denoiser, packed or not.
        error: Its held-out error per level.
        facts: JSON-able facts of the training run.
    """
    from safetensors.torch import save_file

    from bayes1bit.files import complete_or_absent

    state = (pack(denoiser) if packable(denoiser) else denoiser).state_dict()
    tensors: dict[str, Tensor] = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in state.items()
    }
    tensors["error.sigma"], tensors["error.mse"] = error.sigma, error.error
    with complete_or_absent(path / WEIGHTS) as temporary:
        save_file(tensors, temporary, {FORMAT: json.dumps(facts)})


def _check_weights(
    folder: PriorFolder, expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> None:
    """Refuse weights of another network, and numbers that are none."""

    def describe(tensor: Tensor | None) -> str:
        if tensor is None:
            return "absent"
        kind = "real numbers" if tensor.is_floating_point() else str(tensor.dtype)
        return f"{kind} of shape {list(tensor.shape)}"

    for name in sorted({*expected, *weights}):
        wanted, found = describe(expected.get(name)), describe(weights.get(name))
        if wanted != found:
            raise InputError(
                f"the weights in {folder.path} do not fit the network of its recipe.toml: "
                f"{name} must be {wanted}, and is {found}"
            )
        if not weights[name].isfinite().all():
            raise InputError(
                f"the weights in {folder.path} are damaged: {name} has values that are not finite"
            )


class _Mixed(NamedTuple):
    """The names of a mixed prior's parts, and its switch if one is given."""

    cheap: str
    exact: str
    switch: float | None


def _mixed(name: str | Path) -> _Mixed | None:
    """What the name of a mixed prior says; None of any other."""
    cheap, plus, rest = str(name).partition("+")
    if not plus or Path(name).exists():
        return None
    exact, at, switch = rest.rpartition("@")
    if not at:
        return _Mixed(cheap, rest, None)
    try:
        return _Mixed(cheap, exact, float(switch))
    except ValueError:
        if is_hub_name(exact):  # a revision
            return _Mixed(cheap, rest, None)
        raise InputError(
            f'in "{name}" the switch must be a noise level, such as 0.2, got "{switch}"'
        ) from None


def _find(name: str | Path) -> tuple[str, Path]:
    """A prior's own name, and its folder."""
    shipped = shipped_priors()
    if str(name) in shipped:
        return str(name), shipped[str(name)]
    if is_hub_name(name):
        return hub_folder(str(name))
    path = Path(name)
    if (path / WEIGHTS).is_file():
        return path.name, path
    if path.is_dir():
        raise InputError(f"{path} holds no {WEIGHTS}; a prior's folder has that and recipe.toml")
    raise InputError(
        f'there is no prior "{name}"; shipped priors: {", ".join(shipped) or "none"}; '
        "or give the path of a prior's folder, or hf://owner/name"
    )
