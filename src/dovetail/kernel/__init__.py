"""The minimal kernel: how parts are named, found, described and joined. It knows nothing about any one of them."""
