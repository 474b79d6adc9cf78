"""How big a sheet may be: numbers that keep memory and patience bounded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SheetLimits:
    """The caps on one CSV, with the service's defaults. Characters are counted, not bytes.

    ``max_row_characters`` bounds one row with all its cells and is therefore also the cap on a
    cell: a quote that is never closed cannot swallow more than that. ``max_urls_per_product``
    bounds the product that merged rows make (a Shopify product has at most 250 images and 2,048
    variants). The header is looked for in the first ``header_search_rows`` rows.
    """

    max_rows: int = 1_000_000
    max_urls_per_cell: int = 100
    max_url_length: int = 4096
    max_urls_per_product: int = 2_500
    max_columns: int = 10_000
    max_row_characters: int = 4_000_000
    header_search_rows: int = 30
