"""Named arrays in one file: the project's checkpoint format, written and read with numpy.

Little endian throughout:

    header   64 bytes   magic "MUONCKPT", u32 version = 1, u32 number of tensors, u64 file size (all of it), zeros
    entries  128 bytes  each: name[72] (NUL padded), u32 type, u32 ndim (0..4), u64 shape[4] (unused = 1),
                        u64 offset (a multiple of 64), u64 bytes
    payloads            in the order of the entries, each padded with zeros to a multiple of 64
    trailer  8 bytes    u32 CRC-32 (zlib's) of everything before it, u32 0
"""

import struct
import zlib

import numpy as np

MAGIC = b"MUONCKPT"
VERSION = 1
ALIGN = 64
TYPES = [np.dtype(t) for t in ("u1", "<i4", "<i8", "<f4", "<f8")]  # the index is the type's number in the file

HEADER = struct.Struct("<8sIIQ40x")
ENTRY = struct.Struct("<72sII4QQQ")
TRAILER = struct.Struct("<II")


def _padded(size):
    return -(-size // ALIGN) * ALIGN


def encode(tensors):
    """Return the file's bytes for {name: array or str}; a str becomes u8. Raises ValueError for what doesn't fit."""
    entries, payloads = [], []
    offset = HEADER.size + ENTRY.size * len(tensors)
    for name, value in tensors.items():
        array = np.frombuffer(value.encode(), "u1") if isinstance(value, str) else np.asarray(value)
        if array.dtype not in TYPES or array.ndim > 4 or len(name.encode()) >= 72:
            raise ValueError(f"{name}: {array.dtype} with {array.ndim} dimensions can't be stored")
        payload = array.tobytes()  # row-major
        shape = array.shape + (1,) * (4 - array.ndim)
        entries.append(ENTRY.pack(name.encode(), TYPES.index(array.dtype), array.ndim, *shape, offset, len(payload)))
        payloads.append(payload.ljust(_padded(len(payload)), b"\0"))
        offset += len(payloads[-1])
    header = HEADER.pack(MAGIC, VERSION, len(tensors), offset + TRAILER.size)
    data = b"".join([header, *entries, *payloads])
    return data + TRAILER.pack(zlib.crc32(data), 0)


def decode(data):
    """Return {name: array} of the file's bytes, the inverse of encode. Raises ValueError if they are damaged."""
    if len(data) < HEADER.size + TRAILER.size:
        raise ValueError("too short")
    magic, version, count, size = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or size != len(data):
        raise ValueError("not a file of this format and version, or cut short")
    if TRAILER.unpack_from(data, size - TRAILER.size) != (zlib.crc32(data[: -TRAILER.size]), 0):
        raise ValueError("the checksum is wrong")
    tensors = {}
    for i in range(count):
        name, kind, ndim, *shape, offset, size = ENTRY.unpack_from(data, HEADER.size + ENTRY.size * i)
        array = np.frombuffer(data[offset : offset + size], TYPES[kind])
        tensors[name.rstrip(b"\0").decode()] = array.reshape(shape[:ndim])
    return tensors
