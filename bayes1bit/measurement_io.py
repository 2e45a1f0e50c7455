"""Measurements as NetCDF files.

A file has one variable ``y`` of -1 and +1 as any NetCDF tool shows them, which compression brings
to under one and a half bits each, and attributes for everything else. A seeded operator is its few
constructor arguments, as JSON; a dense matrix, thresholds that differ from bit to bit, and a kept
truth are further variables. Every variable carries a checksum.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.files import complete_or_absent
from bayes1bit.measurement import Measurement
from bayes1bit.operators import from_dict

if TYPE_CHECKING:
    import numpy as np

_KIND = "bayes1bit measurement"
_FORMAT = f"{_KIND} 1"
_OPERATOR = "operator_"


def save(measurement: Measurement, path: str | Path) -> None:
    """Write a measurement to a NetCDF file.

    Args:
        measurement: The measurement.
        path: File to write; an existing one is replaced only when the new one is complete.

    Raises:
        InputError: If the file cannot be written, or the operator is of a class that has not been
            registered with a ``kind``.
    """
    import xarray

    if Path(path).is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give a file name such as x.nc")
    if not measurement.operator.kind:
        raise InputError(
            f"{type(measurement.operator).__name__} cannot be saved: define its class with "
            "kind=..., as LinearOperator asks"
        )
    attributes, tensors = _split(measurement)
    variables = {name: (_dimensions(name, t), t.numpy()) for name, t in tensors.items()}
    dataset = xarray.Dataset(variables, attrs=attributes)
    stored = {"zlib": True, "complevel": 9, "fletcher32": True, "_FillValue": None}
    with complete_or_absent(path) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf", encoding=dict.fromkeys(variables, stored))


def load(path: str | Path) -> Measurement:
    """Read a measurement from a file that :func:`save` wrote.

    Args:
        path: File to read.

    Returns:
        The measurement, with its operator on the CPU.

    Raises:
        InputError: If the file is missing, damaged or of another kind, or its parts disagree.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a measurement file")
    try:
        attributes, variables = _read(path)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} is damaged or not a NetCDF file; expected a measurement file ({error})"
        ) from error
    found = attributes.get("format")
    if found != _FORMAT:
        foreign = not str(found).startswith(_KIND)
        what = "is a NetCDF file of another kind" if foreign else f'has the format "{found}"'
        raise InputError(f'{path} {what}; expected a measurement file of format "{_FORMAT}"')
    try:
        return _join(attributes, variables)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path} is not a valid measurement file: {reason}") from error


def _split(measurement: Measurement) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What goes into a file: attributes, and tensors by variable name."""
    operator = measurement.operator.to_dict()
    tensors = {key: value for key, value in operator.items() if isinstance(value, Tensor)}
    plain = {key: value for key, value in operator.items() if key not in tensors}
    variables = {"y": measurement.y}
    variables |= {_OPERATOR + key: value.detach().cpu() for key, value in tensors.items()}
    attributes: dict[str, Any] = {
        "format": _FORMAT,
        "created": measurement.created,
        "version": measurement.version,
        "operator": json.dumps(plain),
        "scale": measurement.scale,
        "link": measurement.link,
        "flip": measurement.flip,
    }
    if isinstance(measurement.threshold, Tensor):
        variables["threshold"] = measurement.threshold
    else:
        attributes["threshold"] = measurement.threshold
    if measurement.data_range is not None:
        attributes["data_range"] = list(measurement.data_range)
    if measurement.truth is not None:
        variables["truth"] = measurement.truth
    return attributes, variables


def _join(attributes: Mapping[str, Any], variables: Mapping[str, Tensor]) -> Measurement:
    """The measurement that a file's contents describe."""
    operator = json.loads(attributes["operator"])
    if not isinstance(operator, dict):
        raise InputError("its operator is not described by a dictionary")
    operator |= {
        name.removeprefix(_OPERATOR): value
        for name, value in variables.items()
        if name.startswith(_OPERATOR)
    }
    dithered = "threshold" in variables
    data_range = attributes.get("data_range")
    return Measurement(
        variables["y"],
        from_dict(operator),
        scale=float(attributes["scale"]),
        link=attributes["link"],
        threshold=variables["threshold"] if dithered else float(attributes["threshold"]),
        flip=float(attributes["flip"]),
        data_range=None if data_range is None else (float(data_range[0]), float(data_range[1])),
        truth=variables.get("truth"),
        created=str(attributes["created"]),
        version=str(attributes["version"]),
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All attributes and variables of a NetCDF file, undecoded."""
    import xarray

    with xarray.open_dataset(path, engine="h5netcdf", decode_cf=False) as dataset:
        variables = dataset.load().variables.items()
        return dict(dataset.attrs), {str(name): _tensor(v.values) for name, v in variables}


def _tensor(values: "np.ndarray") -> Tensor:
    if values.dtype.kind not in "fiub":
        raise InputError(f"it holds values of type {values.dtype}")
    return torch.from_numpy(values)


def _dimensions(name: str, tensor: Tensor) -> tuple[str, ...]:
    if name in ("y", "threshold"):
        return ("measurement",)
    return tuple(f"{name}_dim_{i}" for i in range(tensor.ndim))
