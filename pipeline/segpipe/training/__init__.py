"""Training: schedules, checkpoints that survive anything, and the loop."""
