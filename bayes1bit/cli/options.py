"""Options that several commands have, with one wording each."""

from typing import Annotated

import typer

Prior = Annotated[
    str, typer.Option(metavar="NAME", help="A shipped prior, or the folder of a trained one.")
]
Ratio = Annotated[
    float | None,
    typer.Option(metavar="R", help="Values of the signal per measurement, n/m.  [default: 4]"),
]
Noise = Annotated[
    float | None,
    typer.Option(
        metavar="S", help="Scale of the noise, in units of the measurements.  [default: 0.5]"
    ),
]
Resize = Annotated[
    bool,
    typer.Option(
        "--resize", help="Cut the middle out of pictures of another size, and resize it."
    ),
]
Method = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help='Inference algorithm, which settings may follow; "bayes1bit methods" lists them.',
    ),
]
Methods = Annotated[
    str,
    typer.Option(
        metavar="A,B",
        help='Methods with commas between them, each a name and settings, such as "dps '
        'misfit=likelihood num_levels=200"; "bayes1bit methods" lists them.',
    ),
]
NumSamples = Annotated[
    int, typer.Option("--num-samples", metavar="N", min=1, help="Number of posterior samples.")
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of everything random.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, or cuda where there is a GPU.")]
Precision = Annotated[
    str,
    typer.Option(metavar="NAME", help="float32, or bfloat16 for the products of the network."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the results as one JSON object, and nothing else.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bar and no table; errors alone.")
]
