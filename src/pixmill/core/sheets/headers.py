"""Knows the headers of the CSVs that people have, and finds the columns that matter in a header."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

OWN = "pixmill"
CUSTOM = "custom"

_OWN_SERIAL = ("serialnumber", "serialno", "serialnum", "sno", "slno", "srno", "serial", "s/n")
_OWN_NAME = ("productname", "nameofproduct")
_OWN_URLS = ("inputimageurls", "inputimageurl", "inputurls", "inputimages")


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of CSV: its headers in normal form, the preferred first.

    ``marks`` are headers of which one must be there too, where the others are too common, unless
    all keys are. A ``shop`` lists products without images as a matter of course.
    ``every_serial`` means that a blank key is looked up in the next key column.
    """

    title: str
    serial: tuple[str, ...]
    name: tuple[str, ...]
    urls: tuple[str, ...]
    marks: tuple[str, ...] = ()
    shop: bool = True
    every_serial: bool = False


_WOOCOMMERCE_MARKS = (
    *("type", "published", "isfeatured", "visibilityincatalog", "shortdescription", "taxstatus"),
    *("regularprice", "categories", "parent", "instock"),
)

SOURCES = (
    Source(OWN, _OWN_SERIAL, _OWN_NAME, _OWN_URLS, shop=False),
    Source(
        "shopify",
        ("handle", "urlhandle"),
        ("title",),
        ("imagesrc", "productimageurl", "variantimage", "variantimageurl"),
    ),
    Source(
        "amazon",
        ("itemsku", "contributionsku", "sellersku", "sku"),
        ("itemname", "productname", "title"),
        (
            *("mainimageurl", "otherimageurl", "swatchimageurl"),
            *("mainproductimagelocator", "otherproductimagelocator", "swatchproductimagelocator"),
        ),
    ),
    Source(
        "magento",
        ("sku",),
        ("name",),
        ("baseimage", "smallimage", "thumbnailimage", "additionalimages"),
    ),
    Source(
        "woocommerce", ("sku", "id"), ("name",), ("images",), _WOOCOMMERCE_MARKS, every_serial=True
    ),
    Source("google", ("id",), ("title",), ("imagelink", "additionalimagelink")),
)

# What custom files call these columns, the surest first.
_CUSTOM_SERIAL = (
    *_OWN_SERIAL,
    *("sku", "itemsku", "contributionsku", "sellersku", "productsku", "variantsku"),
    *("productid", "itemid", "id", "productcode", "itemcode", "articlenumber", "articleno"),
    *("itemnumber", "itemno", "productnumber", "partnumber", "partno", "handle", "urlhandle"),
    *("mpn", "asin", "gtin", "ean", "upc", "barcode", "code", "key", "reference", "ref", "no"),
)
_CUSTOM_NAME = (
    *_OWN_NAME,
    *("name", "title", "itemname", "producttitle", "itemtitle", "product", "item", "caption"),
)
_CUSTOM_URLS = {
    *(name for source in SOURCES for name in source.urls),
    *("image", "imageurl", "imageurls", "imagesurl", "imagesurls", "imageslink", "imagelinks"),
    *("productimage", "productimages", "productimageurls", "productimagesurls", "mainimage"),
    *("additionalimage", "additionalimageurl", "additionalimageurls", "otherimages", "gallery"),
    *("galleryimages", "galleryurls", "imagefile", "imagefiles", "imagepath", "imagepaths"),
    *("picture", "pictures", "pictureurl", "pictureurls", "photo", "photos", "photourl"),
    *("photourls", "img", "imgs", "imgurl", "imgurls", "imgsrc", "imageuri", "imageuris"),
    *("thumbnail", "thumbnailurl", "variantimages", "sourceurl", "sourceurls", "src"),
    *("otherimage", "imagelocation", "featuredimage"),
}
# In a shop's export these are the product's page, so they count only where nothing better is.
_PLAIN_URLS = frozenset({"url", "urls"})

_ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_AMAZON_TAIL = re.compile(r"#\d+(\..*)?$")
_DROPPED = re.compile(r"[\s._\-:*\"'`\u200b-\u200f\u2060\ufeff\u2010-\u2015]+")
_DIGITS = re.compile(r"[0-9]+")
_LONGEST = 300  # longer cells are text, not headers


def normalise(header: str) -> str:
    """The header without case, spaces, dots, underscores, hyphens and what is in brackets."""
    if len(header) > _LONGEST:
        return ""
    text = _AMAZON_TAIL.sub("", header.strip().casefold()).removeprefix("g:")
    return _DROPPED.sub("", _ASIDE.sub("", text)) or _DROPPED.sub("", text).strip("()[]")


def url_form(normal: str) -> str:
    """A normal form without its number: ``image2url`` and ``otherimageurl8`` are numbered."""
    return _DIGITS.sub("", normal)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the columns that matter are, as indexes; what was not found is empty."""

    source: str
    shop: bool
    serial: tuple[int, ...]
    name: int | None
    urls: tuple[int, ...]

    @property
    def roles(self) -> int:
        """How many of the three were found."""
        return bool(self.serial) + (self.name is not None) + bool(self.urls)


def recognise(header: Sequence[str]) -> Columns:
    """Find serial number, name and image columns by what the known sources call them."""
    normals = [normalise(cell) for cell in header]
    where: dict[str, int] = {}
    for index, normal in enumerate(normals):
        if normal:
            where.setdefault(normal, index)
    forms = [url_form(normal) for normal in normals]
    for source in SOURCES:
        found = _as_source(source, forms, where)
        if found:
            return found
    urls = _indexes(forms, _CUSTOM_URLS) or _indexes(forms, _PLAIN_URLS)
    return Columns(
        source=CUSTOM,
        shop=False,
        serial=_all(_CUSTOM_SERIAL, where)[:1],
        name=_first(_CUSTOM_NAME, where),
        urls=urls,
    )


def _as_source(source: Source, forms: list[str], where: dict[str, int]) -> Columns | None:
    serial = _all(source.serial, where)
    name = _first(source.name, where)
    if not serial or name is None:
        return None
    sure = not source.marks or len(serial) == len(source.serial)
    if not sure and not any(mark in where for mark in source.marks):
        return None
    urls = _indexes(forms, source.urls)
    if not urls:
        return None
    kept = serial if source.every_serial else serial[:1]
    return Columns(source.title, source.shop, kept, name, urls)


def _indexes(forms: list[str], names: Container[str]) -> tuple[int, ...]:
    return tuple(index for index, form in enumerate(forms) if form in names)


def _all(names: tuple[str, ...], where: dict[str, int]) -> tuple[int, ...]:
    return tuple(where[name] for name in names if name in where)


def _first(names: tuple[str, ...], where: dict[str, int]) -> int | None:
    return next((where[name] for name in names if name in where), None)
