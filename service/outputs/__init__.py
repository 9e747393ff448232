"""What Thawline sends to other tools: events to webhooks, and trials as runs of MLflow, TensorBoard and W&B."""
