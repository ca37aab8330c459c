"""Take the uncompressed kernel out of a bzImage: an emulated processor would need long to inflate it.

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
    """Return the ELF file in a payload; ValueError for a compression that Debian does not use."""
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\x02\x21\x4c\x18"):
        # The last four bytes are the size that the kernel's build appends, which lz4 takes for a frame.
        return subprocess.run(["lz4", "-dc"], input=payload[:-4], capture_output=True, check=True).stdout
    raise ValueError(f"unknown compression, it begins with {payload[:6].hex()}")


if __name__ == "__main__":
    kernel = inflate(payload_of(Path(sys.argv[1]).read_bytes()))
    if not kernel.startswith(b"\x7fELF"):
        sys.exit("there is no ELF file in it")
    Path(sys.argv[2]).write_bytes(kernel)
