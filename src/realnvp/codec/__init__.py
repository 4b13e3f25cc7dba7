"""Lossless compression of images by a flow: files about as small as its bits/dim say."""

from realnvp.codec.files import Contents, compress, decompress, fingerprint, read_contents

__all__ = ["Contents", "compress", "decompress", "fingerprint", "read_contents"]
