"""The exports that people have are recognised and read without being told anything."""

from __future__ import annotations

import pytest

from pixmill.core.sheets import SheetProduct, merge_rows
from tests.core.sheets.helpers import codes, opened, stream, urls

OWN = """S. No.,Product Name,Input Image Urls
1.,SKU1,"https://www.public-image-url1.jpg/a.jpg,https://www.public-image-url2.jpg/b.jpg"
2.,SKU2,"https://img.example.com/3.jpg, https://img.example.com/4.jpg"
"""

SHOPIFY_OLD = """Handle,Title,Body (HTML),Vendor,Option1 Value,Variant SKU,Image Src,\
Image Position,Image Alt Text,Variant Image,Status
linen-shirt,Linen shirt,"<p>Soft, light</p>
<p>Made in Porto</p>",Olhão,S,LS-S,https://cdn.shopify.com/s/files/1/0001/front.jpg?v=17,1,,,active
linen-shirt,,,,M,LS-M,https://cdn.shopify.com/s/files/1/0001/back.jpg?v=17,2,,\
https://cdn.shopify.com/s/files/1/0001/m.jpg?v=17,
linen-shirt,,,,L,LS-L,,,,,
gift-card,Gift card,<p>Any amount</p>,Olhão,10,GC-10,,,,,active
"""

SHOPIFY_NEW = """Title,URL handle,Description,Vendor,SKU,Product image URL,Image position,\
Variant image URL
Mug,mug,Blue,Acme,M-1,https://cdn.shopify.com/s/files/1/2/mug.png,1,
,mug,,,M-2,https://cdn.shopify.com/s/files/1/2/mug-2.png,2,
"""

WOOCOMMERCE = r"""ID,Type,SKU,Name,Published,"Is featured?",Categories,Images
44,variable,woo-vneck,V-Neck,1,0,"Clothing, Shirts","https://woo.example/up/vneck-2.jpg, \
https://woo.example/up/c_fill\,w_300/vneck-blue.jpg"
45,simple,,Hoodie,1,0,Clothing,https://woo.example/up/hoodie.jpg
46,simple,plain,Plain,1,0,Clothing,
""".replace("\\\n", "")

AMAZON = (
    "TemplateType=fptcustom\tVersion=2023.0101\tThe top 3 rows are for Amazon.com use only.\t\t\n"
    "Seller SKU\tProduct Name\tMain Image URL\tOther Image URL1\tSwatch Image URL\n"
    "item_sku\titem_name\tmain_image_url\tother_image_url1\tswatch_image_url\n"
    'B-01\t19" rack shelf\thttps://m.example.com/1.jpg\thttps://m.example.com/2.jpg\t\n'
)

AMAZON_NEW = (
    '"settings=feedType=253";"x";"y"\n'
    "contribution_sku#1.value;item_name[marketplace_id=A1][language_tag=de_DE]#1.value;"
    "main_product_image_locator[marketplace_id=A1]#1.media_location;"
    "other_product_image_locator_1[marketplace_id=A1]#1.media_location\n"
    "B-02;Regal;https://m.example.com/3.jpg;https://m.example.com/4.jpg\n"
)

MAGENTO = """sku,store_view_code,name,base_image,base_image_label,small_image,thumbnail_image,\
additional_images
24-MB01,,Joust bag,https://m.example/b.jpg,Front,https://m.example/s.jpg,https://m.example/t.jpg,\
"https://m.example/1.jpg,https://m.example/2.jpg"
"""

GOOGLE = (
    "id\ttitle\tlink\timage_link\tadditional_image_link\n"
    "SKU-9\tLamp\thttps://shop.example/lamp\thttps://shop.example/lamp.jpg\t"
    "https://shop.example/a%2Cb.jpg,https://shop.example/c.jpg\n"
)


def products(content: str) -> list[tuple[str, str, list[str]]]:
    merged: list[SheetProduct] = list(merge_rows(opened(content).rows()))
    return [(p.serial_number, p.name, [link.url for link in p.links]) for p in merged]


@pytest.mark.parametrize(
    ("content", "source", "delimiter", "header_line", "expected"),
    [
        pytest.param(
            OWN,
            "pixmill",
            ",",
            1,
            [
                (
                    "1.",
                    "SKU1",
                    [
                        "https://www.public-image-url1.jpg/a.jpg",
                        "https://www.public-image-url2.jpg/b.jpg",
                    ],
                ),
                ("2.", "SKU2", ["https://img.example.com/3.jpg", "https://img.example.com/4.jpg"]),
            ],
            id="own",
        ),
        pytest.param(
            SHOPIFY_OLD,
            "shopify",
            ",",
            1,
            [
                (
                    "linen-shirt",
                    "Linen shirt",
                    [
                        "https://cdn.shopify.com/s/files/1/0001/front.jpg?v=17",
                        "https://cdn.shopify.com/s/files/1/0001/back.jpg?v=17",
                        "https://cdn.shopify.com/s/files/1/0001/m.jpg?v=17",
                    ],
                ),
                ("gift-card", "Gift card", []),
            ],
            id="shopify, before 2024",
        ),
        pytest.param(
            SHOPIFY_NEW,
            "shopify",
            ",",
            1,
            [
                (
                    "mug",
                    "Mug",
                    [
                        "https://cdn.shopify.com/s/files/1/2/mug.png",
                        "https://cdn.shopify.com/s/files/1/2/mug-2.png",
                    ],
                )
            ],
            id="shopify, since 2024",
        ),
        pytest.param(
            WOOCOMMERCE,
            "woocommerce",
            ",",
            1,
            [
                (
                    "woo-vneck",
                    "V-Neck",
                    [
                        "https://woo.example/up/vneck-2.jpg",
                        "https://woo.example/up/c_fill,w_300/vneck-blue.jpg",
                    ],
                ),
                ("45", "Hoodie", ["https://woo.example/up/hoodie.jpg"]),
                ("plain", "Plain", []),
            ],
            id="woocommerce, SKU or else ID",
        ),
        pytest.param(
            AMAZON,
            "amazon",
            "\t",
            3,
            [
                (
                    "B-01",
                    '19" rack shelf',
                    ["https://m.example.com/1.jpg", "https://m.example.com/2.jpg"],
                )
            ],
            id="amazon flat file with its two headers",
        ),
        pytest.param(
            AMAZON_NEW,
            "amazon",
            ";",
            2,
            [("B-02", "Regal", ["https://m.example.com/3.jpg", "https://m.example.com/4.jpg"])],
            id="amazon, attribute paths",
        ),
        pytest.param(
            MAGENTO,
            "magento",
            ",",
            1,
            [
                (
                    "24-MB01",
                    "Joust bag",
                    [f"https://m.example/{name}.jpg" for name in ("b", "s", "t", "1", "2")],
                )
            ],
            id="magento",
        ),
        pytest.param(
            GOOGLE,
            "google",
            "\t",
            1,
            [
                (
                    "SKU-9",
                    "Lamp",
                    [
                        "https://shop.example/lamp.jpg",
                        "https://shop.example/a%2Cb.jpg",
                        "https://shop.example/c.jpg",
                    ],
                )
            ],
            id="google feed, the page link left alone",
        ),
    ],
)
def test_an_export_is_read_as_its_source_means_it(
    content: str,
    source: str,
    delimiter: str,
    header_line: int,
    expected: list[tuple[str, str, list[str]]],
) -> None:
    """Source, delimiter and header are found, and the products are the shop's."""
    layout = opened(content).layout
    assert (layout.source, layout.delimiter, layout.header_line) == (source, delimiter, header_line)
    assert products(content) == expected


@pytest.mark.parametrize(
    "header",
    [
        "Serial Number,Product Name,Input Image Urls",
        "SERIAL_NUMBER,product-name,input.image.urls",
        "serialNumber,productName,inputImageUrls",
        "Serial Number (S. No.),Product Name,Input Image Urls",
        "S. No.,Product Name,Input Image URL(s)",
        "Sr. No,Product Name *,Input Image Url",
        "\ufeffSerial Number , Product Name, Input\u00a0Image Urls",
        '"Serial\nNumber",Product Name,Input Image Urls',
        "SKU,Name,Image URL",
        "sku,title,image_url",
        "id,name,url",
        "Product ID,Product,Photos",
        "item code,Item Name,Picture URLs",
        "code,title,img",
        "g:id,g:title,g:image_link",
        "EAN,Name,Image 1 URL",
    ],
)
def test_headers_are_known_however_they_are_spelt(header: str) -> None:
    """Case, blanks, dots, underscores, hyphens and brackets make no difference."""
    assert urls(f"{header}\n1,Mug,https://a.example/1.jpg\n") == [["https://a.example/1.jpg"]]


def test_numbered_image_columns_are_all_read_in_their_order() -> None:
    """Image 1, Image 2 … are one list."""
    content = (
        "sku,name,image1,image2,Image_3_URL\n1,Mug,https://a.de/1,https://a.de/2,https://a.de/3\n"
    )
    assert urls(content) == [["https://a.de/1", "https://a.de/2", "https://a.de/3"]]


def test_a_plain_url_column_yields_to_one_that_says_image() -> None:
    """In most files "url" is the product's page."""
    content = "sku,name,url,image\n1,Mug,https://a.de/page,https://a.de/1.jpg\n"
    assert urls(content) == [["https://a.de/1.jpg"]]


def test_the_output_column_is_no_input() -> None:
    """A file that pixmill wrote can be handed in again."""
    content = (
        "Serial Number,Product Name,Input Image Urls,Output Image Urls\n"
        "1,Mug,https://a.de/1.jpg,https://out.example/1.jpg\n"
    )
    assert urls(content) == [["https://a.de/1.jpg"]]


def test_a_product_without_images_is_normal_in_a_shop_and_a_problem_elsewhere() -> None:
    """Shop exports list gift cards; a sheet made for this service forgot something."""
    assert [row.problems for row in opened(SHOPIFY_OLD).rows()] == [()] * 4
    assert codes("Serial Number,Product Name,Input Image Urls\n1,Mug,\n") == ["no_image"]
    assert codes("sku,name,image\n1,Mug,\n2,Cup,https://a.de/1.jpg\n") == ["no_image"]


def test_rows_that_leave_out_the_key_belong_to_the_row_above() -> None:
    """Magento and hand-made sheets leave key and name out of further image rows."""
    content = "sku,name,image\n1,Mug,https://a.de/1\n,,https://a.de/2\n2,Cup,https://a.de/3\n"
    assert products(content) == [
        ("1", "Mug", ["https://a.de/1", "https://a.de/2"]),
        ("2", "Cup", ["https://a.de/3"]),
    ]


def test_equal_keys_with_other_names_or_apart_stay_apart() -> None:
    """Only consecutive rows of one key and one name are one product."""
    content = (
        "sku,name,image\n1,Mug,https://a.de/1\n1,Cup,https://a.de/2\n"
        "2,Jar,https://a.de/3\n1,Mug,https://a.de/4\n1,Mug,https://a.de/5\n"
    )
    assert [(key, len(links)) for key, _, links in products(content)] == [
        ("1", 1),
        ("1", 1),
        ("2", 1),
        ("1", 2),
    ]


def test_later_rows_of_a_product_survive_a_bad_first_row_and_do_not_join_the_one_before() -> None:
    """Skipping a bad row must not move images to another product."""
    content = (
        "Handle,Title,Image Src\na,A,https://a.de/1\nb,B,nonsense\nb,,https://a.de/2\n"
        "b,,https://a.de/3\n"
    )
    assert products(content) == [
        ("a", "A", ["https://a.de/1"]),
        ("b", "B", ["https://a.de/2", "https://a.de/3"]),
    ]


def test_products_know_their_first_line() -> None:
    """The line is that of the product's first row, below multi-line cells too."""
    merged = list(merge_rows(opened(SHOPIFY_OLD).rows()))
    assert [product.line for product in merged] == [2, 6]
    assert stream(SHOPIFY_OLD).read().splitlines()[5].startswith(b"gift-card")
