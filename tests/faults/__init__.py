"""What can go wrong on the way of a recording, done on purpose: ``python -m tests.faults``.

One development stack with real workers; between its parts HTTP proxies that break what a case's
rules say; workers that hurt themselves where a case orders it. Each case ends in the undisturbed
transcript or in a documented failure, after exactly as many runs of the handler as it says.
"""
