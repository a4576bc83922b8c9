"""Binary glTF 2.0 (.glb) of one mesh: positions, normals, triangles."""

import json
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from hmrb.body.render import vertex_normals

MAGIC, VERSION, JSON_CHUNK, BIN_CHUNK = b"glTF", 2, b"JSON", b"BIN\0"
FLOAT, UNSIGNED_INT, ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 5126, 5125, 34962, 34963  # of the standard


def write_glb(path: Path, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> None:
    """Write a mesh. glTF's axes: metres, y up, counter-clockwise faces outwards."""
    corners = vertices.astype("<f4")
    normals = vertex_normals(vertices.astype(np.float32), faces).astype("<f4")
    parts = [corners.tobytes(), normals.tobytes(), faces.astype("<u4").tobytes()]
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    targets = (ARRAY_BUFFER, ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER)
    low, high = corners.min(0).tolist(), corners.max(0).tolist()
    count = len(corners)
    tree = {
        "asset": {"version": "2.0", "generator": "hmrb"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": [0.65, 0.75, 0.98, 1], "metallicFactor": 0}}],
        "buffers": [{"byteLength": starts[-1]}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": len(part), "target": target}
            for start, part, target in zip(starts[:-1], parts, targets, strict=True)
        ],
        "accessors": [
            {"bufferView": 0, "componentType": FLOAT, "count": count, "type": "VEC3", "min": low, "max": high},
            {"bufferView": 1, "componentType": FLOAT, "count": count, "type": "VEC3"},
            {"bufferView": 2, "componentType": UNSIGNED_INT, "count": faces.size, "type": "SCALAR"},
        ],
    }
    head = json.dumps(tree, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 4)
    body = b"".join(parts)  # a multiple of 4 bytes
    size = 12 + 8 + len(head) + 8 + len(body)
    path.write_bytes(
        MAGIC + struct.pack("<II", VERSION, size)
        + struct.pack("<I", len(head)) + JSON_CHUNK + head
        + struct.pack("<I", len(body)) + BIN_CHUNK + body
    )  # fmt: skip
