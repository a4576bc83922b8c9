"""TFRecords as TensorFlow writes them: messages by protobuf, framing by TensorBoard."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorboard.summary.writer.record_writer import RecordWriter

FIELD = descriptor_pb2.FieldDescriptorProto
LISTS = {"BytesList": FIELD.TYPE_BYTES, "FloatList": FIELD.TYPE_FLOAT, "Int64List": FIELD.TYPE_INT64}


def write_records(path: Path, examples: list[Mapping[str, Any]], packed: bool = True) -> None:
    """Write one record per example: features by name, lists of bytes or arrays of numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for features in examples:
            writer.write(example(features, packed).SerializeToString())


def example(features: Mapping[str, Any], packed: bool = True) -> Any:
    """A tf.train.Example."""
    message = _example_class(packed)()
    for name, values in features.items():
        feature = message.features.feature.add(key=name).value
        if isinstance(values, list):
            feature.bytes_list.value.extend(values)
        elif np.issubdtype(values.dtype, np.integer):
            feature.int64_list.value.extend(values.ravel().tolist())
        else:
            feature.float_list.value.extend(values.ravel().tolist())
    return message


@cache
def _example_class(packed: bool) -> Any:
    """example.proto with its map as repeated pairs, which is a map's wire format."""
    name = f"toy{packed:d}"
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=name, syntax="proto3")

    def message(title: str, *fields: tuple[str, int, bool]) -> None:
        made = file.message_type.add(name=title)
        for number, (label, kind, many) in enumerate(fields, 1):
            field = made.field.add(
                name=label.partition(":")[0],
                number=number,
                label=FIELD.LABEL_REPEATED if many else FIELD.LABEL_OPTIONAL,
            )
            field.type = kind
            if kind == FIELD.TYPE_MESSAGE:
                field.type_name = f".{name}.{label.partition(':')[2]}"
            elif kind in (FIELD.TYPE_FLOAT, FIELD.TYPE_INT64):
                field.options.packed = packed

    for title, kind in LISTS.items():
        message(title, ("value", kind, True))
    one = FIELD.TYPE_MESSAGE
    message(
        "Feature", ("bytes_list:BytesList", one, False), ("float_list:FloatList", one, False),
        ("int64_list:Int64List", one, False),
    )  # fmt: skip
    message("Pair", ("key", FIELD.TYPE_STRING, False), ("value:Feature", one, False))
    message("Features", ("feature:Pair", one, True))
    message("Example", ("features:Features", one, False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{name}.Example"))
