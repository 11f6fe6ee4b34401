"""The models that a job runs through, without the stages around them."""
