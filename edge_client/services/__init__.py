"""The services outside: S3, presigned URLs and RunPod."""
