"""``bayes1bit bench``: measurements of accuracy and speed, one module for each kind."""

import typer

from bayes1bit.cli import (
    bench_calibration,
    bench_exact,
    bench_large,
    bench_networks,
    bench_parts,
    bench_recovery,
    bench_regression,
)

app = typer.Typer(
    name="bench",
    help="Measure accuracy, calibration and speed.",
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _bench(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command(epilog=bench_recovery.EXAMPLES)(bench_recovery.recovery)
app.command(epilog=bench_regression.EXAMPLES)(bench_regression.regression)
app.command(epilog=bench_exact.EXAMPLES)(bench_exact.exact)
app.command(epilog=bench_calibration.EXAMPLES)(bench_calibration.calibration)
app.command(epilog=bench_networks.EXAMPLES)(bench_networks.binarizers)
app.command(epilog=bench_large.EXAMPLES)(bench_large.large)
for part in (bench_parts.speed, bench_parts.reverse, bench_parts.prior):
    app.command()(part)
