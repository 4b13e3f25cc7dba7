"""Lossless compression of images by a flow, to a size close to its bits/dim."""

from realnvp.codec.files import Contents, compress, decompress, fingerprint, read_contents

__all__ = ["Contents", "compress", "decompress", "fingerprint", "read_contents"]
