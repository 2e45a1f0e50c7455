"""What the docstring of a public object must say, as rules that a test can hold against it.

* Every public class, function, method and property has a docstring of its own.
* An ``Args`` section describes every argument, and nothing else. Public functions and constructors
  of more than one argument have one.
* Wherever a tensor comes in, the docstring gives its shape.
* Whatever raises ``InputError``, itself or by a helper of its module, says so under ``Raises``.

A docstring that begins with "See" and a reference takes over what it refers to, and so does one
whose arguments, or errors, "are those of" another. What a run of an algorithm can raise may stand
in the docstring of its class, after "when run".
"""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
import types

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|References?|Note|Example):", re.M)
_SEE = re.compile(r"^See :\w+:`|\b(?:[Aa]rguments|errors) are\s+those\s+of\s+:\w+:`")
_SHAPE = re.compile(
    r"\bshapes?\b|\bscalar|broadcast|\*event|\(\w+,|\bSee :|\bas :\w+:`|same as|like ", re.I
)


def sections(docstring):
    """Text of each section of a docstring by its name, and the rest under ''."""
    parts = _SECTION.split(inspect.cleandoc(docstring))
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(section):
    """Entries of a section such as Args: names to texts."""
    text = textwrap.dedent(section.strip("\n"))
    found = re.split(r"^\*{0,2}(\w+(?:, \w+)*):", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def complaints(name, value):
    """What is wrong with the docstrings of a public object and of its public members."""
    if inspect.isclass(value):
        return _of_class(name, value)
    if inspect.isroutine(value):
        return _of_callable(name, value, value.__doc__, needs_args=True)
    return []


def _of_class(name, cls):
    docstring = vars(cls).get("__doc__")
    if not docstring or docstring.startswith(f"{cls.__name__}("):  # what a dataclass writes itself
        return [f"{name} has no docstring"]
    if _SEE.search(docstring):
        return []
    found = []
    constructor = vars(cls).get("__init__")
    if dataclasses.is_dataclass(cls) and "__dataclass_fields__" in vars(cls):
        fields = [field.name for field in dataclasses.fields(cls) if field.init]
        found += _check_entries(name, docstring, fields, needs_args=True)
        constructor = vars(cls).get("__post_init__")
    elif hasattr(cls, "_fields") and issubclass(cls, tuple):
        found += _check_entries(name, docstring, list(cls._fields), needs_args=True)
        constructor = None
    elif constructor is not None:
        found += _of_callable(name, constructor, docstring, needs_args=True)
        constructor = None
    if constructor is not None:
        found += _check_raises(name, constructor, docstring)
    for member_name, member in vars(cls).items():
        if not member_name.startswith("_") or member_name == "__call__":
            found += _of_member(f"{name}.{member_name}", member)
    if "when run" in sections(docstring).get("Raises", ""):
        found = [text for text in found if not re.search(r"\.(draw|first_cloud) raises", text)]
    return found


def _of_member(name, member):
    if isinstance(member, property | functools.cached_property):
        function = member.fget if isinstance(member, property) else member.func
        if not function.__doc__:
            return [f"{name} has no docstring"]
        return _check_raises(name, function, function.__doc__)
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if isinstance(member, types.FunctionType):
        return _of_callable(name, member, member.__doc__, needs_args=False)
    return []


def _of_callable(name, function, docstring, needs_args):
    if not docstring:
        return [f"{name} has no docstring"]
    if _SEE.search(docstring):
        return []
    parameters = {
        key: value
        for key, value in inspect.signature(function).parameters.items()
        if key not in ("self", "cls", "validate_args", "_instance") and not key.startswith("_")
    }
    found = _check_entries(name, docstring, list(parameters), needs_args)
    found += _check_shapes(name, docstring, parameters)
    return found + _check_raises(name, function, docstring)


def _check_entries(name, docstring, expected, needs_args):
    parts = sections(docstring)
    if "Args" not in parts and "Attributes" not in parts:
        if needs_args and len(expected) > 1:
            return [f"{name} does not describe its arguments {', '.join(expected)}"]
        return []
    entries = {
        key
        for section in ("Args", "Attributes")
        for group in described(parts.get(section, ""))
        for key in group.split(", ")
    }
    missing = [key for key in expected if key not in entries]
    if "Args" not in parts:
        unknown = []
    else:
        own = {key for group in described(parts["Args"]) for key in group.split(", ")}
        unknown = sorted(own - set(expected) - {"validate_args"})
    found = [f"{name} does not describe {key}" for key in missing]
    return found + [f"{name} describes {key}, which is no argument" for key in unknown]


def _check_shapes(name, docstring, parameters):
    tensors = [key for key, value in parameters.items() if _is_tensor(value.annotation)]
    entries = described(sections(docstring).get("Args", ""))
    found = []
    for key in tensors:
        text = next(
            (text for group, text in entries.items() if key in group.split(", ")), docstring
        )
        if not _SHAPE.search(text):
            found.append(f"{name} does not give the shape of {key}")
    return found


def _is_tensor(annotation):
    words = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return words in ("Tensor", "Tensor | None") or (
        annotation is not None and str(annotation) in ("torch.Tensor | None",)
    )


def _check_raises(name, function, docstring):
    if raises_input_error(function) and "InputError" not in sections(docstring).get("Raises", ""):
        return [f"{name} raises InputError and does not say when"]
    return []


def raises_input_error(function):
    """Whether a function raises InputError itself, or calls a check of its module that does."""
    function = inspect.unwrap(function)
    module = inspect.getmodule(function)
    for node in ast.walk(_tree(function)):
        if isinstance(node, ast.Raise) and "InputError" in ast.dump(node):
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            helper = getattr(module, node.func.id, None)
            is_check = node.func.id.lstrip("_").startswith("check")
            if is_check and isinstance(helper, types.FunctionType) and raises_input_error(helper):
                return True
    return False


def _tree(function):
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError):
        return ast.Module(body=[], type_ignores=[])
