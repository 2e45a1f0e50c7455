"""The public names of the package: what its packages export."""

import importlib
import pkgutil
from pathlib import Path

import bayes1bit


def public_packages():
    """Packages that say what they export, the command line aside."""
    names = [module.name for module in pkgutil.walk_packages(bayes1bit.__path__, "bayes1bit.")]
    modules = [bayes1bit, *(importlib.import_module(n) for n in names if is_package(n))]
    return [module for module in modules if hasattr(module, "__all__")]


def is_package(name):
    return (
        Path(bayes1bit.__file__).parents[1] / Path(*name.split(".")) / "__init__.py"
    ).exists() and ".cli" not in name


def public_names():
    """Every public name with its object."""
    return {
        f"{package.__name__}.{name}": getattr(package, name)
        for package in public_packages()
        for name in package.__all__
    }
