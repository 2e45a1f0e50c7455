"""The one exception type for input that the package cannot use.

Everything a caller can get wrong (a shape, a value range, a file, a name) raises
:class:`InputError`, a ``ValueError`` whose message says what is wrong and what would be right.
The command line turns it into one sentence and exit code 2; any other exception is a defect.
"""


class InputError(ValueError):
    """Input that cannot be used: the message names the fault and what would be right."""
