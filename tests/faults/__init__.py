"""What can go wrong on the way of a recording, done on purpose: ``python -m tests.faults``.

One development stack with real workers; between worker and S3, between edge and queue and
between worker and queue an HTTP proxy that breaks what its rules say; workers that hurt
themselves where a case orders it. Each case ends in the undisturbed transcript or in a documented
failure, after exactly as many runs of the handler as its table says.
"""
