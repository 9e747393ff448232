"""Parameter-efficient fine-tuning of transformers: LoRA, DoRA, BitFit, prompt tuning and bottleneck adapters."""
