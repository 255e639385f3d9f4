"""Run as a program: SOURCE PATH FILE_TYPE THREADS. It packs one file by llama.cpp and ends with its verdict."""

from __future__ import annotations

import ctypes
import sys


def pack(source: str, path: str, file_type: int, threads: int) -> int:
    """0 where the file is written; what llama.cpp says of it goes to the standard error."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, threads
    return int(llama_cpp.llama_model_quantize(source.encode(), path.encode(), ctypes.byref(params)))


if __name__ == "__main__":
    sys.exit(min(1, pack(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
