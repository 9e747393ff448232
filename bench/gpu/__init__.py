"""Benchmark of the GPU paths on one card, in two runs of a few minutes: whether they work, and how fast they are.

    python -m bench.gpu works --out OUT --seconds 180
    python -m bench.gpu speed --out OUT --seconds 360

It makes its own data and weights, and runs from the source tree. Both runs write a row to OUT/rows-RUN.jsonl whenever something was
measured, and at the end a table to OUT/table-RUN.md. `--tiny` runs the same code on a CPU, on small data.

A run consists of parts. Each is a process with a time limit, so that a part that hangs, crashes or makes the GPU unusable does not affect
the others. Parts and cases for which too little time is left are not started. They have a row too.
"""
