"""Build time: put pinned models into a folder, prove that they load with no network."""
