"""When each word is said: the times and scores of ``whisperx.align`` 3.8.6.

They are the same to the bit where one segment goes through the model at a time:

    acoustic  slices of the waveform → log-probabilities of each label in each frame
    labels    a text → the labels that an aligner can place
    ctc       log-probabilities and labels → the best path
    words     the path → words and sentences with times
"""
