"""What a deployment is made with: units for the edge box, and the release's own check."""
