"""Floor 2: sockets and pixels: fetching images and compressing them."""
