"""The training loop: cohorts of runs that share their data and their teacher."""
