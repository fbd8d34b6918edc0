"""Weight files of other programs, read without executing anything in them."""
