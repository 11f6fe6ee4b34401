"""Edge boxes, a bucket, a queue and its workers, in one thread, under a clock of their own.

What runs is the real `plan`, `Engine`, `Reconciler`, `submit`, `claim` and `outcome`, with the real
translation of errors; replaced are boto3's client and what sends to RunPod. `schedule.draw` turns
an integer into a `Schedule`; `schedule.run` returns its `History`; docs/guarantees.md has what is
promised of it.
"""
