"""What every room uses and none owns: errors, files, serialization, random numbers, processes."""
