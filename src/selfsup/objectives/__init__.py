"""What is hidden and how the guess is scored; one file each."""
