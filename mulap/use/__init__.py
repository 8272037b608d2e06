"""What people use an encoder for."""
