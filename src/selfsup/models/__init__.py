"""Networks as a whole, and their folders in the layout of the ecosystem."""
