"""From files to batches: sources, tokenizers, shards, rows, masks, and the order of examples."""
