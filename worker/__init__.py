"""Runs on the GPU: fetch, decode, speech spans, text, word times, speakers, deliver.

`worker.pipeline` is the one place that names the stages in order; stages never import stages.
Each takes and returns frozen values of `worker.types`.
"""
