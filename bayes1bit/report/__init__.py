"""A posterior as one web page that needs nothing but a browser.

:func:`write_report` writes it, :func:`build_page` gives its text. The page answers four questions
in this order: what came out, what it looks like, whether to believe it, and how to make it again.
Figures of diagnostics are turned into sentences by :mod:`~bayes1bit.report.findings`, whose
thresholds are documented there.
"""

from bayes1bit.report.build import build_page, write_report
from bayes1bit.report.findings import Finding

__all__ = ["Finding", "build_page", "write_report"]
