"""Make the embedded person detector from a published network: hmrb/detect/mobilenet.npz.

    pip install 'hmrb[build-detector]' && npm pack @mediapipe/objectron@0.4.1675468480
    python scripts/make_detector.py mediapipe-objectron-0.4.1675468480.tgz --out hmrb/detect/mobilenet.npz
    python scripts/make_detector.py mediapipe-objectron-0.4.1675468480.tgz --out hmrb/detect/mobilenet.npz --check

Source: npm package @mediapipe/objectron 0.4.1675468480 (Apache-2.0, The MediaPipe Authors), in it the file
object_detection_ssd_mobilenetv2_oidv4_fp16.tflite: SSD on MobileNetV2, 23 classes of Open Images V4, in float16.
Steps: unpack that file, take its convolutions in order, keep of the class heads the rows "Person", round the weights
to int8 with one scale per output channel. The same package gives the same bytes.
"""

import argparse
import hashlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

try:
    import tflite
except ImportError as error:
    sys.exit(
        f"{error.name} is missing; making the detector (hmrb includes a made one) needs: pip install tflite==2.18.0"
    )

MEMBER = "package/objectron_solution_packed_assets.data"
START_BYTE = 184  # of the network in the member, after its list of 24 labels
TFLITE_SHA256 = "d0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6"
NUM_CLASSES = 24  # the first is none of the 23
PERSON = 4  # its row in the list of labels
MADE_FROM = (
    "@mediapipe/objectron 0.4.1675468480, object_detection_ssd_mobilenetv2_oidv4_fp16.tflite (Apache-2.0,"
    " The MediaPipe Authors); changed: class Person alone, int8 weights, see LICENSE.md"
)

Arrays = dict[str, np.ndarray]


def read_network(package: Path) -> bytes:
    """The network's file in the package; stops when it is another than the one that this script was written for."""
    with tarfile.open(package) as archive:
        member = archive.extractfile(MEMBER)
        content = member.read()[START_BYTE:] if member else b""
    found = hashlib.sha256(content).hexdigest()
    if found != TFLITE_SHA256:
        sys.exit(f"{package}: its network has sha256 {found}, expected {TFLITE_SHA256}; take version 0.4.1675468480")
    return content


def convolutions(content: bytes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weight (out, in / groups, kernel, kernel) and bias (out,) of each convolution, in the order of the network."""
    model = tflite.Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    codes = [model.OperatorCodes(operator.OpcodeIndex()).DeprecatedBuiltinCode() for operator in operators]
    halves = {
        int(operator.Outputs(0)): int(operator.Inputs(0))
        for operator, code in zip(operators, codes, strict=True)
        if code == tflite.BuiltinOperator.DEQUANTIZE
    }
    shaped = {
        int(operator.Inputs(0)): graph.Tensors(operator.Outputs(0)).ShapeAsNumpy()
        for operator, code in zip(operators, codes, strict=True)
        if code == tflite.BuiltinOperator.RESHAPE
    }

    def values(index: int) -> np.ndarray:
        tensor = graph.Tensors(halves[index])
        raw = model.Buffers(tensor.Buffer()).DataAsNumpy()
        return raw.view(np.float16).reshape(tensor.ShapeAsNumpy()).astype(np.float64)

    for operator, code in zip(operators, codes, strict=True):
        if code not in (tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D):
            continue
        weight, bias = values(operator.Inputs(1)), values(operator.Inputs(2))
        is_depthwise = code == tflite.BuiltinOperator.DEPTHWISE_CONV_2D
        weight = weight.transpose((3, 0, 1, 2) if is_depthwise else (0, 3, 1, 2))
        if shaped.get(int(operator.Outputs(0)), ())[-1:] == [NUM_CLASSES]:  # a class head: anchors x classes
            weight, bias = weight[PERSON::NUM_CLASSES], bias[PERSON::NUM_CLASSES]
        yield weight, bias


def shrink(content: bytes) -> Arrays:
    """The arrays of the detector: for each convolution int8 weights, a scale per output channel, a bias."""
    arrays: Arrays = {"made_from": np.array(MADE_FROM)}
    for index, (weight, bias) in enumerate(convolutions(content)):
        scale = np.abs(weight).max(axis=(1, 2, 3)) / 127
        scale[scale == 0] = 1.0  # a channel without weights
        arrays[f"weight_{index:02}"] = np.rint(weight / scale[:, None, None, None]).astype(np.int8)
        arrays[f"scale_{index:02}"] = scale.astype(np.float32)
        arrays[f"bias_{index:02}"] = bias.astype(np.float32)
    return arrays


def pack(arrays: Arrays) -> bytes:
    """An .npz file whose bytes depend on the arrays alone."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            part = io.BytesIO()
            np.lib.format.write_array(part, array, allow_pickle=False)
            archive.writestr(member, part.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return content.getvalue()


def main() -> None:
    """Write the file, or compare it with a fresh one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the packed npm package")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if --out differs from a fresh one")
    asked = parser.parse_args()
    made = pack(shrink(read_network(asked.package)))
    digest = hashlib.sha256(made).hexdigest()
    if asked.check:
        there = hashlib.sha256(asked.out.read_bytes()).hexdigest()
        sys.exit(None if there == digest else f"{asked.out}: sha256 {there}, made anew {digest}")
    asked.out.write_bytes(made)
    print(f"{asked.out}: {len(made):,} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
