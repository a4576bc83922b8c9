"""Read TFRecord files of tf.train.Example one record at a time, without TensorFlow.

Framing: https://www.tensorflow.org/tutorials/load_data/tfrecord; messages: tensorflow/core/example/example.proto.
Only the checksums of record lengths are verified: a wrong length would break the framing. Images are checked when they
are decoded.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hmrb.errors import RunError

CASTAGNOLI = 0x82F63B78  # reflected CRC-32C polynomial
MOST_BYTES = 1 << 30  # of a record, which is read whole; those of InstaVariety have 1 MB
HEADER, FOOTER = 12, 4  # bytes before a record (length and its checksum) and after it (checksum of the record)
Feature = list[bytes] | np.ndarray


@dataclass(frozen=True, slots=True)
class TFRecord:
    """Location of a record: its `number` in the file, its first byte `start` and its `length` in bytes."""

    path: Path
    number: int
    start: int
    length: int


def records(path: Path) -> Iterator[TFRecord]:
    """Iterate over the records of a file by their lengths. Raises RunError if the file is truncated."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        at = number = 0
        while at < size:
            file.seek(at)
            header = file.read(HEADER)
            length, checksum = struct.unpack("<QI", header) if len(header) == HEADER else (size, 0)
            if length > MOST_BYTES and _masked(_crc(header[:8])) == checksum:
                raise RunError(f"{path}: record {number} has {length:,} bytes; the limit is {MOST_BYTES:,}")
            if _masked(_crc(header[:8])) != checksum or at + HEADER + length + FOOTER > size:
                raise RunError(f"{path}: not a TFRecord file, or truncated after {number} records")
            yield TFRecord(path, number, at + HEADER, length)
            at += HEADER + length + FOOTER
            number += 1


def read_example(record: TFRecord) -> dict[str, Feature]:
    """Read the features of a tf.train.Example by name: lists of bytes, float32 arrays or int64 arrays."""
    with open(record.path, "rb") as file:
        file.seek(record.start)
        data = memoryview(file.read(record.length))
    try:
        return {
            bytes(parts[1]).decode(): _feature(parts[2])
            for features in _all(data, 1)
            for entry in _all(features, 1)
            for parts in [dict(_fields(entry))]
        }
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise RunError(f"{record.path}: record {record.number} is not a tf.train.Example ({error})") from None


def _feature(data: memoryview) -> Feature:
    """One feature: a list of bytes, floats or integers. Numbers may be packed or unpacked."""
    for kind, values in _fields(data):
        if kind == 1:
            return [bytes(value) for value in _all(values, 1)]
        if kind == 2:
            return np.concatenate([np.zeros(0, "<f4"), *(np.frombuffer(value, "<f4") for value in _all(values, 1))])
        if kind == 3:
            return np.array([number for value in _all(values, 1) for number in _integers(value)], np.int64)
    return []


def _all(data: memoryview, number: int) -> Iterator[memoryview]:
    return (value for key, value in _fields(data) if key == number)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Iterate over the fields of a protobuf message: field number and raw bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        start = at
        if wire == 0:
            end = _varint(data, at)[1]
        elif wire == 2:
            length, start = _varint(data, at)
            end = start + length
        elif wire in (1, 5):
            end = at + (8 if wire == 1 else 4)
        else:
            raise ValueError(f"unsupported wire type {wire}")
        if end > len(data):
            raise ValueError("truncated field")
        yield number, data[start:end]
        at = end


def _integers(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value - (1 << 64) if value >> 63 else value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Decode a varint (seven bits per byte); returns its value and the offset after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value & ((1 << 64) - 1), at


def _crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (CASTAGNOLI if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """Mask a checksum as TFRecord stores it; computing a CRC of data that contains CRCs is otherwise unsafe."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
