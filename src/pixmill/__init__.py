"""pixmill: a CSV of product image URLs in; compressed, stored and served images out."""
