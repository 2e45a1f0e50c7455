"""Posteriors as ArviZ containers and NetCDF files.

ArviZ's schema puts what belongs together in groups: ``posterior``, ``posterior_predictive``,
``log_likelihood``, ``sample_stats``, ``observed_data``, ``constant_data``, each an xarray dataset
with named dimensions. Its draws are equally weighted, so a weighted posterior is resampled
systematically, always in the same way, before it goes into these groups; ``sample_stats`` then
tells which particle each draw is a copy of.

A file has the same layout, one NetCDF group per ArviZ group, so that ``arviz.from_netcdf`` and any
NetCDF tool read it. Weighted posteriors add groups below ``/particles`` with the particles as they
were and their weights, which is what :func:`load` reads back. zlib's checksum guards
every array.
"""

import datetime
import importlib.metadata
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.files import complete_or_absent
from bayes1bit.posterior import Posterior
from bayes1bit.posterior_summary import total_log_likelihood

if TYPE_CHECKING:
    import xarray

_FORMAT = "bayes1bit posterior 1"
_RESERVED = ("chain", "draw", "particle", "channel", "height", "width")
_PER_SAMPLE = {"posterior_predictive": "predictive", "log_likelihood": "log_likelihood"}
_FIXED = {"observed_data": "observed", "constant_data": "constants"}


def to_arviz(posterior: Posterior) -> Any:
    """Convert a posterior to the container of the installed ArviZ.

    Args:
        posterior: The posterior; weighted ones are resampled.

    Returns:
        ``arviz.InferenceData`` on ArviZ 0.x, ``xarray.DataTree`` on ArviZ 1.x.

    Raises:
        InputError: If a site or a constant has a name or a dtype that NetCDF does not allow.
    """
    return arviz_container(_arviz_groups(posterior), _attributes(posterior))


def arviz_container(
    groups: Mapping[str, "xarray.Dataset"], attributes: Mapping[str, Any] | None = None
) -> Any:
    """Put datasets in the container of the installed ArviZ.

    Args:
        groups: Datasets by the name of their group.
        attributes: Attributes of the whole.

    Returns:
        ``arviz.InferenceData`` on ArviZ 0.x, ``xarray.DataTree`` on ArviZ 1.x.
    """
    if int(_version("arviz").split(".")[0]) >= 1:
        import xarray

        return xarray.DataTree.from_dict({"/": xarray.Dataset(attrs=attributes), **groups})
    return import_arviz().InferenceData(attrs=dict(attributes or {}), **groups)


def import_arviz() -> Any:
    """Import ArviZ without its daily announcement."""
    with warnings.catch_warnings():
        # ArviZ 0.23 announces its rewrite on import, once a day.
        warnings.filterwarnings("ignore", message="\nArviZ is undergoing", category=FutureWarning)
        import arviz
    return arviz


def save(posterior: Posterior, path: str | Path) -> None:
    """Write a posterior to a NetCDF file.

    Args:
        posterior: The posterior.
        path: File to write; an existing one is replaced only when the new one is complete.

    Raises:
        InputError: If the file cannot be written, or NetCDF does not allow a name or a dtype.
    """
    import xarray

    if Path(path).is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give a file name such as x.nc")
    groups = dict(_arviz_groups(posterior))
    if posterior.weights is not None:
        groups["particles"] = xarray.Dataset({"weight": ("particle", _array(posterior.weights))})
        for name, dataset in _sample_groups(posterior, ("particle",)).items():
            groups[f"particles/{name}"] = dataset
    with complete_or_absent(path) as temporary:
        root = xarray.Dataset(attrs={"format": _FORMAT, **_attributes(posterior)})
        root.to_netcdf(temporary, mode="w", engine="h5netcdf")
        for name, dataset in groups.items():
            dataset.to_netcdf(
                temporary, mode="a", group=name, engine="h5netcdf", encoding=_encoding(dataset)
            )


def load(path: str | Path) -> Posterior:
    """Read a posterior from a file that :func:`save` wrote.

    Args:
        path: File to read.

    Returns:
        The posterior, on the CPU.

    Raises:
        InputError: If the file is missing, damaged, or not a posterior of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: {path}; expected a posterior file written by save()")
    try:
        attributes, groups = _read(path)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} is damaged or not a NetCDF file; expected a posterior file written by save() "
            f"({error})"
        ) from error
    if attributes.get("format") != _FORMAT:
        raise InputError(
            f"{path} is a NetCDF file of another kind; expected the attribute "
            f"format = {_FORMAT!r}, which save() writes"
        )
    try:
        return _rebuild(attributes, groups)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a complete posterior file; save() writes more ({error})"
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """All root attributes and, by group, all data variables of a NetCDF file."""
    import h5netcdf
    import xarray

    groups = {}
    with h5netcdf.File(path, "r") as file:
        attributes = dict(file.attrs)
        names = [*file.groups]
        if "particles" in file.groups:
            names += [f"particles/{name}" for name in file["particles"].groups]
    if attributes.get("format") == _FORMAT:
        for name in names:
            with xarray.open_dataset(
                path, group=name, engine="h5netcdf", decode_times=False
            ) as dataset:
                values = dataset.load().data_vars
                groups[name] = {str(key): torch.from_numpy(v.values) for key, v in values.items()}
    return attributes, groups


def _rebuild(
    attributes: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]
) -> Posterior:
    """The posterior that a file's contents describe."""
    weighted = "particles" in groups
    site = str(attributes["site"])

    def per_sample(group: str) -> dict[str, Tensor]:
        if weighted:
            return dict(groups.get(f"particles/{group}", {}))
        return {name: value.flatten(0, 1) for name, value in groups.get(group, {}).items()}

    latents = per_sample("posterior")
    log_evidence, nfe = attributes.get("log_evidence"), float(attributes["nfe"])
    return Posterior(
        latents.pop(site),
        site=site,
        weights=groups["particles"]["weight"] if weighted else None,
        log_evidence=None if log_evidence is None else float(log_evidence),
        nfe=int(nfe) if nfe.is_integer() else nfe,
        seconds=float(attributes["seconds"]),
        algorithm=str(attributes["algorithm"]),
        settings=json.loads(attributes["settings"]),
        attributes=json.loads(attributes["attributes"]),
        latents=latents,
        num_chains=1 if weighted else len(groups["posterior"][site]),
        **{name: per_sample(group) for group, name in _PER_SAMPLE.items()},
        **{name: dict(groups.get(group, {})) for group, name in _FIXED.items()},
    )


def _arviz_groups(posterior: Posterior) -> dict[str, "xarray.Dataset"]:
    """The datasets of ArviZ's schema, with equally weighted draws along their chains."""
    import xarray

    equal = posterior.equally_weighted()
    groups = _sample_groups(equal, ("chain", "draw"))
    groups["sample_stats"] = _sample_stats(posterior, equal)
    for group, name in _FIXED.items():
        values: Mapping[str, Tensor] = getattr(posterior, name)
        if values:
            groups[group] = xarray.Dataset(
                {key: _variable(key, value) for key, value in values.items()}
            )
    created = datetime.datetime.now(datetime.UTC).isoformat()
    for dataset in groups.values():
        for dim in dataset.dims:
            dataset.coords[dim] = range(dataset.sizes[dim])
        dataset.attrs.update(
            created_at=created,
            inference_library="bayes1bit",
            inference_library_version=_package_version(),
        )
    groups["posterior"].attrs["sampling_time"] = float(posterior.seconds)
    return groups


def _sample_groups(
    posterior: Posterior, sample_dims: tuple[str, ...]
) -> dict[str, "xarray.Dataset"]:
    """Datasets of everything that has one entry per sample."""
    import xarray

    groups = {}
    contents = {"posterior": {posterior.site: posterior.samples, **posterior.latents}}
    contents |= {group: getattr(posterior, name) for group, name in _PER_SAMPLE.items()}
    for group, values in contents.items():
        if values:
            groups[group] = xarray.Dataset(
                {
                    name: _variable(
                        name,
                        value,
                        sample_dims,
                        posterior.num_chains,
                        pictures=group == "posterior" and name == posterior.site,
                    )
                    for name, value in values.items()
                }
            )
    return groups


def _sample_stats(posterior: Posterior, equal: Posterior) -> "xarray.Dataset":
    """Figures per draw: log-likelihood, and which particle it copies with what weight."""
    import xarray

    dims = ("chain", "draw")
    values: dict[str, Any] = {}

    def by_chain(value: Tensor) -> Any:
        return _array(value.reshape(equal.num_chains, -1))

    total = total_log_likelihood(equal)
    if total is not None:
        meaning = "log-likelihood of all observations; the prior's density is not part of it"
        values["lp"] = (dims, by_chain(total), {"description": meaning})
    if posterior.weights is None:
        weight = torch.full((posterior.num_samples,), 1.0 / posterior.num_samples).double()
    else:
        particle = posterior.representative_indices()
        weight = posterior.weights[particle]
        values["particle"] = (
            dims,
            by_chain(particle),
            {"description": "index of the weighted particle that this draw is a copy of"},
        )
    meaning = "weight of the particle before resampling; draws are equally weighted"
    values["weight"] = (dims, by_chain(weight), {"description": meaning})
    return xarray.Dataset(values)


def _variable(
    name: str,
    value: Tensor,
    sample_dims: tuple[str, ...] = (),
    num_chains: int = 1,
    pictures: bool = False,
) -> tuple[tuple[str, ...], Any]:
    """Named dimensions and values of one variable, with a chain dimension where one is asked."""
    if not name or "/" in name or name in _RESERVED:
        raise InputError(
            f"{name!r} cannot name a variable of a posterior file; rename the site or constant, "
            f"without '/' and not one of {', '.join(_RESERVED)}"
        )
    if value.dtype in (torch.float16, torch.bfloat16) or value.is_complex():
        raise InputError(
            f"{name!r} has dtype {value.dtype}, which NetCDF cannot hold; give float32 or float64"
        )
    if "chain" in sample_dims:
        value = value.unflatten(0, (num_chains, -1))
    rank = value.dim() - len(sample_dims)
    dims = tuple(f"{name}_dim_{i}" for i in range(rank))
    if pictures and rank == 3:
        dims = ("channel", "height", "width")
    return (*sample_dims, *dims), _array(value)


def _attributes(posterior: Posterior) -> dict[str, str | float]:
    """Provenance as NetCDF attributes: strings and numbers."""
    size = posterior.effective_sample_size
    attributes: dict[str, str | float] = {
        "site": str(posterior.site),
        "algorithm": str(posterior.algorithm),
        "settings": json.dumps(posterior.settings),
        "attributes": json.dumps(posterior.attributes),
        "nfe": float(posterior.nfe),
        "seconds": float(posterior.seconds),
        "weights": "equal"
        if posterior.weights is None
        else f"resampled systematically from {posterior.num_samples} weighted particles "
        f"with an effective sample size of {size:.1f}",
        "effective_sample_size": size,
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "bayes1bit_version": _package_version(),
        "pyro_version": _version("pyro-ppl"),
        "torch_version": str(torch.__version__),
    }
    if posterior.log_evidence is not None:
        attributes["log_evidence"] = posterior.log_evidence
    if "structure" in posterior.attributes:
        attributes["structure"] = str(posterior.attributes["structure"])
    return attributes


def _encoding(dataset: "xarray.Dataset") -> dict[str, dict[str, Any]]:
    """Lossless compression, whose checksum finds damage; no fill value in the place of NaN."""
    stored = {"zlib": True, "complevel": 1, "shuffle": True}
    return {
        str(name): {**(stored if variable.ndim and variable.size else {}), "_FillValue": None}
        for name, variable in dataset.variables.items()
    }


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy()


def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


def _package_version() -> str:
    import bayes1bit

    return str(getattr(bayes1bit, "__version__", "unknown"))
