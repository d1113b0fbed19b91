"""What a model is for: pre-train, fill, embed, inspect."""
