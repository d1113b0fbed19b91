"""Parts of networks: attention, blocks, losses.  They know no task."""
