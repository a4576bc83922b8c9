#!/usr/bin/env bash
# Collects in dist/gpu what gpu_check.py needs and a machine with torch, timm, h5py, OpenCV, typer and rich may lack:
# hmrb's wheel, and its other requirements for the Python given (3.12 if none is). Install them there without a network:
#   pip install --no-index --no-deps dist/gpu/*.whl
set -euo pipefail
cd "$(dirname "$0")/.."
python_version=${1:-3.12}
folder=dist/gpu
rm -rf "$folder" && mkdir -p "$folder"
pip wheel --quiet --no-deps --wheel-dir "$folder" .
pip download --quiet --no-deps --only-binary=:all: --python-version "$python_version" \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$folder" \
    pydantic pydantic-core annotated-types typing-inspection typing-extensions smplx jaxtyping wadler-lindig \
    pyyaml jinja2 markupsafe tensorboard tensorboard-data-server grpcio protobuf absl-py markdown werkzeug \
    pytest pluggy iniconfig packaging pygments
ls -s --block-size=K "$folder"
