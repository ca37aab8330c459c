"""Extract the uncompressed kernel from a bzImage: inflating it in an emulated processor takes long.

extract_kernel.py BZIMAGE VMLINUX; needs the lz4 command.
https://docs.kernel.org/arch/x86/boot.html#the-real-mode-kernel-header
"""

import lzma
import struct
import subprocess
import sys
import zlib
from pathlib import Path

SECTOR = 512


def payload_of(image: bytes) -> bytes:
    """Return the compressed kernel in a bzImage."""
    setup_sectors = image[0x1F1] or 4  # 0 means 4, for the oldest loaders
    offset, length = struct.unpack_from("<II", image, 0x248)  # payload_offset, payload_length
    start = (setup_sectors + 1) * SECTOR + offset
    return image[start : start + length]


def inflate(payload: bytes) -> bytes:
    """Return the ELF file in a payload; raise ValueError for a compression that Debian does not use."""
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\x02\x21\x4c\x18"):
        # The kernel's build appends the size in four bytes, which lz4 would read as another frame.
        return subprocess.run(["lz4", "-dc"], input=payload[:-4], capture_output=True, check=True).stdout
    raise ValueError(f"unknown compression; the payload starts with {payload[:6].hex()}")


if __name__ == "__main__":
    kernel = inflate(payload_of(Path(sys.argv[1]).read_bytes()))
    if not kernel.startswith(b"\x7fELF"):
        sys.exit("it contains no ELF file")
    Path(sys.argv[2]).write_bytes(kernel)
