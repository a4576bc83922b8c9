"""TensorFlow's records of named features, read one by one and without TensorFlow.

Framing: https://www.tensorflow.org/tutorials/load_data/tfrecord; messages: tensorflow/core/example/example.proto.
Only the checksums of lengths are checked: they are what would lead astray, and pictures are checked when decoded.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hmrb.errors import RequestError

CASTAGNOLI = 0x82F63B78  # CRC-32C's polynomial, reflected
HEADER, FOOTER = 12, 4  # bytes around a record: length and its checksum, checksum of the record
Feature = list[bytes] | np.ndarray


@dataclass(frozen=True, slots=True)
class TFRecord:
    """Where a record is: `number` in its file, from byte `start` on."""

    path: Path
    number: int
    start: int
    length: int


def records(path: Path) -> Iterator[TFRecord]:
    """The records of a file, found by their lengths alone. Raises RequestError for a file that is cut short."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        at = number = 0
        while at < size:
            file.seek(at)
            header = file.read(HEADER)
            length, checksum = struct.unpack("<QI", header) if len(header) == HEADER else (size, 0)
            if _masked(_crc(header[:8])) != checksum or at + HEADER + length + FOOTER > size:
                raise RequestError(f"{path}: no TFRecord file, or one that is cut short after {number} records")
            yield TFRecord(path, number, at + HEADER, length)
            at += HEADER + length + FOOTER
            number += 1


def read_example(record: TFRecord) -> dict[str, Feature]:
    """The features of a tf.train.Example by name: lists of bytes, arrays of float32 or of int64."""
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
        raise RequestError(f"{record.path}: record {record.number} is no tf.train.Example ({error})") from None


def _feature(data: memoryview) -> Feature:
    """One of three lists. Numbers are packed together or stand one by one."""
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
    """The fields of a protobuf message: number, and bytes as they stand."""
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
            raise ValueError(f"wire type {wire}")
        if end > len(data):
            raise ValueError("cut short")
        yield number, data[start:end]
        at = end


def _integers(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value - (1 << 64) if value >> 63 else value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
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
    """As TFRecord stores checksums, so that those of data with checksums in it are good ones."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
