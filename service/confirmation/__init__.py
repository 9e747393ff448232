"""What a study's result is worth: the statistics of its confirmation, pure functions of trials."""
