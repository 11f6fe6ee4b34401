"""The alignment engine: emissions, trellis, words and sentences.

Gives the times and scores of ``whisperx.align`` 3.8.6, to the bit where one segment goes through
the model at a time, without its Python loop over frames and its data frames.
"""
