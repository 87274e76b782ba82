"""Makes gguf/rows.gguf: 16 rows of every quantized type, cut out of files that llama.cpp's own quantizer wrote.

python cut_gguf.py FOLDER_OF_TINY_FILES
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf

rows: dict[str, gguf.ReaderTensor] = {}
for path in sorted(Path(sys.argv[1]).glob("tiny-Q*.gguf")):
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name != "output.weight" and tensor.tensor_type.name.startswith("Q"):
            rows.setdefault(tensor.tensor_type.name, tensor)

writer = gguf.GGUFWriter(Path(__file__).parent / "gguf" / "rows.gguf", "phi3")
for name, tensor in sorted(rows.items()):
    writer.add_tensor(name, tensor.data[:16], raw_dtype=tensor.tensor_type)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
