"""Of an exported configuration, the parts that are about images and classes: the training script, the summary of results, the card."""
