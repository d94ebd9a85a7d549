"""What the user asked for, as checked values: pure, without I/O."""
