"""Labels of a photograph with onnxruntime alone: python onnx_labels.py MODEL.onnx PHOTO LABELS.png

MODEL.onnx comes from `pspnet export MODEL MODEL.onnx --output labels`: 8-bit RGB images (B, H, W, 3) in, classes
(B, H, W) out; normalisation, resizing and argmax are inside. Needs: onnxruntime, numpy, pillow.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, photo, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["pspnet"])["card"]["label_space"]

image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
height, width = session.get_inputs()[0].shape[1:3]
if isinstance(height, int):  # a graph of one size
    image = image.resize((width, height), Image.Resampling.BILINEAR)
(labels,) = session.run(["labels"], {"images": np.asarray(image)[None]})

coloured = Image.fromarray(labels[0])
coloured.putpalette(np.asarray(about["colours"], np.uint8).ravel().tolist())
coloured.save(target)
for index, count in enumerate(np.bincount(labels.ravel(), minlength=len(about["names"]))):
    if count:
        print(f"{about['names'][index]:20s} {count / labels.size:6.1%}")
