"""The process that `clustering.link` starts: vectors in on stdin, a dendrogram out on stdout.

Both are files. Run as a file itself, so that it imports scipy and nothing of the worker.
"""

import sys

import numpy as np
from scipy.cluster.hierarchy import linkage


def main() -> None:
    """Link what stdin holds: two `numpy.save` arrays, of (method, metric) and of vectors."""
    method, metric = np.load(sys.stdin.buffer)
    vectors = np.load(sys.stdin.buffer)
    np.save(sys.stdout.buffer, linkage(vectors, method=str(method), metric=str(metric)))


if __name__ == "__main__":
    main()
