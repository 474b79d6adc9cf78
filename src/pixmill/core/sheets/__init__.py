"""Reading and writing the CSVs: what comes in as products, what goes out as results.

    encoding → layout (columns, headers) → records → rows (cells, links, shares) → products

``reader`` opens a sheet, ``check`` counts and judges one, ``writer`` makes those that go out.
"""

from pixmill.core.limits import SheetLimits
from pixmill.core.sheets.check import SheetSummary, check_sheet
from pixmill.core.sheets.problems import ProblemCode
from pixmill.core.sheets.products import SheetProduct, merge_rows
from pixmill.core.sheets.reader import Layout, Link, Row, Sheet, read_sheet
from pixmill.core.sheets.writer import ErrorLine, write_errors, write_output

__all__ = [
    "ErrorLine",
    "Layout",
    "Link",
    "ProblemCode",
    "Row",
    "Sheet",
    "SheetLimits",
    "SheetProduct",
    "SheetSummary",
    "check_sheet",
    "merge_rows",
    "read_sheet",
    "write_errors",
    "write_output",
]
