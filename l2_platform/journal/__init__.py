"""The journal: the raw bytes of every stream with their receive times, the only source of truth.

`frame` is the format, `writer` and `reader` its two ends, `sealer` compresses closed segments and proves them, `importing` writes a
whole finished stream at once. What does not belong here: what the bytes mean.
"""
