"""The one loop, with budget, schedule, optimizers, checkpoints, devices."""
