"""What each command runs: a runner for each, and the helpers that they share."""
