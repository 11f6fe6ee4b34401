"""When each word is said: the times and scores of ``whisperx.align`` 3.8.6.

They are the same to the bit where one segment goes through the model at a time. `acoustic` gives
the log-probabilities of labels in frames, `labels` the labels of a text, `ctc` the best path of
these, `words` the words and sentences that lie on it.
"""
