"""The parts of an exported configuration for image classification: training script, summary of results, model card."""
