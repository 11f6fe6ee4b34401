"""Speech that the tests and benchmarks are made of."""
