"""What RunPod's SDK needs of a worker: its job loop, progress, logs and health checks."""
